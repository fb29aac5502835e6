"""A consumer of oms that misses nothing and applies nothing twice.

It keeps the newest state of every instance in SQLite. First it reads the feed up to its end, then it
follows Kafka:

    pip install confluent-kafka
    python consumer.py --api http://127.0.0.1:8000 --kafka 127.0.0.1:9092 --state instances.db

Stop it, start it again, as often as you like: it goes on where it was. With `--once` it ends when
nothing has come for ten seconds. With tokens configured set OMS_TOKEN (role `read`).
"""

import argparse
import json
import os
import sqlite3
import urllib.parse
import urllib.request

from confluent_kafka import Consumer

SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (stream TEXT PRIMARY KEY, version INTEGER NOT NULL, data TEXT);
CREATE TABLE IF NOT EXISTS cursor (one INTEGER PRIMARY KEY CHECK (one = 1), after TEXT NOT NULL);
"""


class Api:
    """What a consumer needs of the HTTP API."""

    def __init__(self, base):
        self.base = base.rstrip("/")

    def get(self, path):
        request = urllib.request.Request(self.base + path)
        if os.environ.get("OMS_TOKEN"):
            request.add_header("Authorization", "Bearer " + os.environ["OMS_TOKEN"])
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def feed(self, after):
        """Pages of every event, from a cursor on."""
        while True:
            query = {"limit": 1000} | ({"after": after} if after else {})
            page = self.get("/api/v1/events?" + urllib.parse.urlencode(query))
            if not page["items"]:
                return
            after = page["next_cursor"]
            yield page["items"], after

    def stream(self, event, first, count):
        """Events of the stream that this event belongs to."""
        # The id is sent as one segment: its own slashes are escaped.
        stream_id = urllib.parse.quote(event["streamid"], safe="")
        path = f"/api/v1/streams/{event['streamtype']}/{stream_id}/events"
        while count > 0:
            items = self.get(f"{path}?from_version={first}&limit={min(count, 1000)}")["items"]
            if not items:
                return
            yield from items
            first, count = first + len(items), count - len(items)


class State:
    """What this consumer has made of the events."""

    def __init__(self, path):
        self.db = sqlite3.connect(path)
        self.db.executescript(SCHEMA)

    def cursor(self):
        row = self.db.execute("SELECT after FROM cursor").fetchone()
        return row[0] if row else None

    def version(self, stream):
        row = self.db.execute("SELECT version FROM streams WHERE stream = ?", (stream,)).fetchone()
        return row[0] if row else 0

    def apply(self, event, api):
        """Takes in one event, if it is new. What lies between it and the last one is read first."""
        stream, version = event["subject"], event["streamversion"]
        known = self.version(stream)
        if version <= known:
            return 0
        missing = api.stream(event, known + 1, version - known - 1) if version > known + 1 else []
        applied = 0
        for each in [*missing, event]:
            data = json.dumps(new_state(each)) if new_state(each) is not None else None
            self.db.execute(
                "INSERT INTO streams VALUES (?, ?, ?) ON CONFLICT (stream) DO UPDATE"
                " SET version = excluded.version, data = excluded.data",
                (stream, each["streamversion"], data),
            )
            applied += 1
        return applied


def new_state(event):
    """What the event leaves behind. Events of instances carry the whole new data under `data`."""
    if event["type"].endswith("Deleted"):
        return None
    return event["data"].get("data", event["data"])


def event_of(message, api):
    """The event of a message: its value, or what the reference in its place leads to."""
    value = json.loads(message.value())
    headers = {name: text.decode() for name, text in message.headers() or []}
    if headers.get("claim_check") != "true":
        return value
    (event,) = api.get(value["href"])["items"]
    if event["id"] != value["event_id"]:
        raise RuntimeError(f"{value['href']} is not event {value['event_id']}")
    return event


def catch_up(state, api):
    """Reads the feed to its end. The cursor is kept with what was made of its events."""
    applied = 0
    for events, after in api.feed(state.cursor()):
        with state.db:
            applied += sum(state.apply(event, api) for event in events)
            state.db.execute("REPLACE INTO cursor VALUES (1, ?)", (after,))
    print(f"caught up with the feed: {applied} events")


def follow(state, api, options):
    """Follows the topics. An offset is committed after the state, so a crash repeats and never skips."""
    consumer = Consumer({
        "bootstrap.servers": options.kafka,
        "group.id": options.group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    })
    consumer.subscribe([f"{options.prefix}.{kind}" for kind in ("instance", "stream")])
    quiet = 0
    try:
        while not (options.once and quiet >= 10):
            message = consumer.poll(1.0)
            if message is None:
                quiet += 1
                continue
            if message.error():
                print("Kafka:", message.error())
                continue
            quiet = 0
            event = event_of(message, api)
            with state.db:
                applied = state.apply(event, api)
            consumer.commit(message, asynchronous=False)
            word = f"applied {applied}" if applied else "known already"
            print(f"{word}: {event['subject']} version {event['streamversion']} {event['type']}")
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--api", default="http://127.0.0.1:8000")
    parser.add_argument("--kafka", required=True, help="host:port")
    parser.add_argument("--state", default="instances.db", help="SQLite file")
    parser.add_argument("--group", default="instances-to-sqlite")
    parser.add_argument("--prefix", default="oms", help="kafka.topic_prefix of the service")
    parser.add_argument("--once", action="store_true", help="end when nothing comes for 10 s")
    options = parser.parse_args()
    state, api = State(options.state), Api(options.api)
    catch_up(state, api)
    follow(state, api, options)


if __name__ == "__main__":
    main()
