"""The worked consumers, killed and started again, with a broker that forgets: in the end each has what the API has.

    consumers.py OMS FOLDER PYTHON-COMMAND... -- TYPESCRIPT-COMMAND...

The service is started in FOLDER and killed there.
"""

import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.parse
import urllib.request

# What `finally` ends must be ended also when this is told to stop.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

PATIENCE = 180


def until(what, done):
    deadline = time.monotonic() + PATIENCE
    while not (found := done()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE} s: {what}")
        time.sleep(0.2)
    return found


class Service:
    """`oms serve` with everything embedded."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.process = binary, folder, None

    def start(self):
        endpoints = self.folder / "data" / "endpoints.json"
        endpoints.unlink(missing_ok=True)
        log = open(self.folder / "oms.log", "ab")
        command = [self.binary, "serve", "--data-dir", self.folder / "data", "--port", "0", "--log-level", "warn"]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until("the service is there", lambda: endpoints.exists() and endpoints.stat().st_size)
        self.endpoints = json.loads(endpoints.read_text())
        until("the service is ready", lambda: self.is_ready())

    def is_ready(self):
        try:
            return self.get("/health/ready")
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def get(self, path):
        with urllib.request.urlopen(self.endpoints["http"] + path, timeout=30) as answer:
            return json.load(answer)

    def send(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.endpoints["http"] + "/api/v1" + path, data, method=method)
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def pages(self, path, cursor):
        after = None
        while True:
            page = self.get(path + (f"&{cursor}={urllib.parse.quote(after)}" if after else ""))
            yield from page["items"]
            after = page["next_cursor"]
            if not page["items"] or not after:
                return

    def versions(self):
        """The newest version of each stream."""
        found = {}
        for event in self.pages("/api/v1/events?limit=1000", "after"):
            found[event["subject"]] = max(found.get(event["subject"], 0), event["streamversion"])
        return found

    def instances(self):
        """Every instance that is there, by its stream: version and data."""
        found = {}
        for database in self.pages("/api/v1/databases?limit=100", "cursor"):
            classes = f"/api/v1/databases/{database['id']}/classes"
            for each in self.pages(classes + "?limit=100", "cursor"):
                for one in self.pages(f"{classes}/{each['id']}/instances?limit=1000", "cursor"):
                    name = urllib.parse.quote(one["id"], safe="-._~")
                    found[f"instance/{database['id']}/{each['id']}/{name}"] = (one["version"], one["data"])
        return found


class Copy:
    """A worked consumer and what it has made of the events."""

    def __init__(self, name, command, folder, service):
        self.name, self.command, self.service = name, command, service
        self.state, self.log = folder / f"{name}.state", folder / f"{name}.log"
        self.process, self.said_before = None, 0

    def start(self, *more):
        ends = self.service.endpoints
        s3 = ends["s3"]
        environment = os.environ | {
            "AWS_ENDPOINT_URL": s3["endpoint"], "AWS_REGION": s3["region"], "AWS_DEFAULT_REGION": s3["region"],
            "AWS_ACCESS_KEY_ID": s3["access_key"], "AWS_SECRET_ACCESS_KEY": s3["secret_key"],
            "OMS_BUCKET": s3["bucket"],
        }
        self.said_before = len(self.said())
        command = [*self.command, "--api", ends["http"], "--kafka", ends["kafka"], "--state", self.state, *more]
        log = open(self.log, "ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def kill(self):
        if self.process:
            assert self.process.poll() is None, f"{self.name} ended by itself: {self.log.read_text()[-3000:]}"
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def said(self):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith('{"event"')]

    def has_said(self, word, number=1):
        """Whether it has said this, so often, since it was started last."""
        return sum(each["event"] == word for each in self.said()[self.said_before:]) >= number

    def content(self):
        """Versions of all streams, and the instances that are there with version and data."""
        if self.name == "python":
            db = sqlite3.connect(self.state)
            rows = db.execute("SELECT stream, version, data FROM instances").fetchall()
            versions = dict(db.execute("SELECT stream, version FROM streams").fetchall())
            return versions, {stream: (version, json.loads(data)) for stream, version, data in rows}
        streams = json.loads(self.state.read_text())["streams"]

        def is_there(name):
            one = streams.get(name)
            if not one or not one["alive"] or "parent" not in one:
                return bool(one and one["alive"])
            parent = streams.get(one["parent"], {})
            return parent.get("incarnation") == one["parentIncarnation"] and is_there(one["parent"])

        there = {name: one for name, one in streams.items() if one["type"] == "instance" and is_there(name)}
        versions = {name: one["version"] for name, one in streams.items()}
        return versions, {name: (one["version"], one["data"]) for name, one in there.items()}

    def has(self, versions):
        return self.state.exists() and self.content()[0] == versions


def film(name):
    return {"id": name, "label": name, "properties": [{"name": "title", "type": "string"}]}


def main():
    binary, folder, *commands = sys.argv[1:]
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    split = commands.index("--")
    service = Service(binary, folder)
    service.start()
    copies = [
        Copy("python", [*commands[:split], "--s3"], folder, service),
        Copy("typescript", commands[split + 1:], folder, service),
    ]
    send, instances = service.send, "/databases/films/classes/Film/instances"

    def everybody(what, done):
        for copy in copies:
            until(f"{copy.name}: {what}", lambda: done(copy))

    try:
        send("POST", "/databases", {"name": "films"})
        for name in ("Film", "Gone"):
            send("POST", "/databases/films/classes", film(name))
        send("POST", "/databases/films/classes/Gone/instances", {"id": "g1", "data": {"title": "gone"}})
        many = [{"op": "create", "id": f"f{n}", "data": {"title": f"{n}"}} for n in range(300)]
        send("POST", f"{instances}/batch", {"operations": many})

        # Killed while it reads, and again while it follows.
        for copy in copies:
            copy.start()
        everybody("reads the feed", lambda copy: copy.has_said("swept"))
        for copy in copies:
            copy.kill()
            copy.start()
        everybody("reads the feed", lambda copy: copy.has_said("swept"))

        def write_and_look():
            send("PATCH", f"{instances}/f{time.monotonic_ns() % 300}", {"title": f"at {time.monotonic()}"})
            return all(copy.has_said("applied", 5) for copy in copies)

        until("both follow", write_and_look)
        for copy in copies:
            copy.kill()

        # While nobody looks: an odd name, one too large for the broker, deletions, a class that comes again.
        send("POST", instances, {"id": "a b%ü", "data": {"title": "odd"}})
        send("POST", "/streams/note/large/events", {"events": [{"type": "Noted", "data": "x" * 1_030_000}]})
        send("DELETE", f"{instances}/f7")
        send("DELETE", "/databases/films/classes/Gone")
        send("POST", "/databases/films/classes", film("Gone"))
        for copy in copies:
            copy.start("--sweep", "0")
        everybody("fetches what a reference stands for", lambda copy: copy.has_said("reference"))
        versions = service.versions()
        everybody("has every stream", lambda copy: copy.has(versions))
        for copy in copies:
            copy.kill()

        # Delivered while nobody looks, and then the broker forgets: only the next version tells.
        for _ in range(4):
            send("POST", "/streams/order/1/events", {"events": [{"type": "Ordered", "data": {"n": 1}}]})
        send("PATCH", f"{instances}/a%20b%25%C3%BC", {"title": "odder"})
        until("all is delivered", lambda: service.get("/api/v1/admin/outbox")["depth"] == 0)
        service.kill()
        service.start()
        send("POST", "/streams/order/1/events", {"events": [{"type": "Paid", "data": {"n": 1}}]})
        send("PATCH", f"{instances}/a%20b%25%C3%BC", {"title": "oddest"})
        for copy in copies:
            copy.start("--sweep", "0")
        everybody("notices two gaps and fills them", lambda copy: copy.has_said("gap", 2))
        assert copies[0].has_said("forgot"), "the offsets that were kept are not those of the new broker"
        versions = service.versions()
        everybody("has every stream", lambda copy: copy.has(versions))

        # What nobody hears of any more is in the feed; and the service may end and come back meanwhile.
        for copy in copies:
            copy.kill()
        send("POST", instances, {"id": "unheard", "data": {"title": "once"}})
        until("all is delivered", lambda: service.get("/api/v1/admin/outbox")["depth"] == 0)
        service.kill()
        service.start()
        for copy in copies:
            copy.start()
        versions, there = service.versions(), service.instances()
        assert len(there) == 301, len(there)
        everybody("has every stream", lambda copy: copy.has(versions))
        for copy in copies:
            assert copy.content()[1] == there, f"{copy.name} has other instances than the API"
            gaps = {each["source"] for each in copy.said() if each["event"] == "gap"}
            references = {each["source"] for each in copy.said() if each["event"] == "reference"}
            print(f"{copy.name}: {len(versions)} streams, {len(there)} instances as the API has them;"
                  f" gaps filled from {sorted(gaps)}, references from {sorted(references)}")
    finally:
        for copy in copies:
            if copy.process:
                copy.process.kill()
        service.kill()


if __name__ == "__main__":
    main()
