"""Every kind of message that docs/asyncapi.yaml describes, read from the broker and held to it.

    messages.py FILE    the messages are left in FILE, a JSON object a line, for the CloudEvents SDKs
"""

import base64
import collections
import json
import os
import pathlib
import sys
import time
import urllib.request

import jsonschema
import yaml
from confluent_kafka import Consumer

API, KAFKA = os.environ["OMS_API"], os.environ["OMS_KAFKA"]
DOCUMENT = yaml.safe_load((pathlib.Path(__file__).parents[2] / "docs" / "asyncapi.yaml").read_text())
PATIENCE = 120


def resolved(reference):
    """What a `$ref` of the document names."""
    found = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def whole(message):
    """A message with its traits merged in."""
    traits = [resolved(each["$ref"]) for each in message.get("traits", [])]
    return {name: value for each in [*traits, message] for name, value in each.items()}


def validator(schema):
    schema = {"components": DOCUMENT["components"], **schema}
    kind = jsonschema.Draft7Validator
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


def kinds():
    """By the address of each channel: its messages by name, ready to hold something to them."""
    found = {}
    for channel in DOCUMENT["channels"].values():
        prefix = resolved(channel["parameters"]["prefix"]["$ref"])["default"]
        messages = {name: whole(resolved(each["$ref"])) for name, each in channel["messages"].items()}
        found[channel["address"].format(prefix=prefix)] = {
            name: (message["contentType"], validator(message["headers"]), validator(message["payload"]))
            for name, message in messages.items()
        }
    return found


def send(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{API}/api/v1{path}", data, method=method)
    request.add_header("content-type", "application/json")
    request.add_header("idempotency-key", f"messages-{time.monotonic_ns()}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def write_each_kind():
    """Has every kind of event recorded; returns how many."""
    db = f"m{time.time_ns():x}"
    classes, instances = f"/databases/{db}/classes", f"/databases/{db}/classes/Film/instances"
    film = {"id": "Film", "label": "Film", "properties": [{"name": "title", "type": "string"}], "metadata": {"a": 1}}
    send("POST", "/databases", {"name": db, "description": "each kind"})
    send("POST", classes, film)
    send("PUT", f"{classes}/Film", film | {"label": "Movie"})
    send("POST", instances, {"id": "a b%ü", "data": {"title": "x"}, "metadata": {"by": "ann"}})
    send("PATCH", f"{instances}/a%20b%25%C3%BC", {"title": "y"})
    send("DELETE", f"{instances}/a%20b%25%C3%BC")
    send("DELETE", f"{classes}/Film")
    send("DELETE", f"/databases/{db}")
    for data in ({"n": 1}, [1.5, None], "text", "x" * 1_030_000):
        send("POST", f"/streams/note/{db}/events", {"events": [{"type": "Noted", "data": data}]})
    return 12


def named(message, messages):
    """The one kind that a message is; fails if it is none or several."""
    headers = {name: value.decode() for name, value in message.headers()}
    value = json.loads(message.value())
    fitting, wrong = [], {}
    for name, (content_type, of_headers, of_payload) in messages.items():
        errors = [*of_headers.iter_errors(headers), *of_payload.iter_errors(value)]
        if content_type != headers["content-type"]:
            errors.append(f"content type {headers['content-type']}")
        if errors:
            wrong[name] = str(errors[0])[:300]
        else:
            fitting.append(name)
    assert len(fitting) == 1, f"{message.key()}: fits {fitting}; {wrong}"
    assert message.key().decode() == headers["ce_subject"], headers
    if fitting != ["Reference"]:
        for header, member in (("ce_id", "id"), ("ce_type", "type"), ("ce_subject", "subject"), ("ce_time", "time"),
                               ("ce_source", "source"), ("ce_correlationid", "correlationid")):
            assert headers[header] == value[member], (header, headers, value)
        assert headers["version"] == str(value["streamversion"])
    return fitting[0]


def main():
    expected = write_each_kind()
    described = kinds()
    consumer = Consumer({"bootstrap.servers": KAFKA, "group.id": f"messages-{time.time_ns()}",
                         "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe(list(described))
    seen, deadline = collections.Counter(), time.monotonic() + PATIENCE
    all_kinds = {name for messages in described.values() for name in messages}
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        while sum(seen.values()) < expected or set(seen) != all_kinds:
            assert time.monotonic() < deadline, f"not seen within {PATIENCE} s: {all_kinds - set(seen)}; {dict(seen)}"
            message = consumer.poll(1.0)
            if message is None or message.error():
                continue
            seen[named(message, described[message.topic()])] += 1
            line = {"topic": message.topic(), "key": message.key().decode(),
                    "headers": {name: value.decode() for name, value in message.headers()},
                    "value": base64.b64encode(message.value()).decode()}
            out.write(json.dumps(line) + "\n")
    consumer.close()
    print(f"AsyncAPI: {sum(seen.values())} messages are as described: {dict(sorted(seen.items()))}")


if __name__ == "__main__":
    main()
