"""What the CloudEvents SDK for Python makes of each message that messages.py has left.

    sdk.py FILE
"""

import base64
import collections
import json
import sys

from cloudevents.core.bindings import kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.v1.kafka import KafkaMessage, from_structured


def read_by(reader, line):
    """`right`, or what is wrong with what it makes of the message."""
    headers = {name: value.encode() for name, value in line["headers"].items()}
    value = base64.b64decode(line["value"])
    try:
        event = reader(headers, line["key"].encode(), value)
    except Exception as error:  # Whatever it refuses with is what is reported.
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    wanted = json.loads(value)
    attributes, data = event
    if "claim_check" in line["headers"]:
        return "taken for an event"
    if data != wanted["data"]:
        return "the whole envelope is read as its data" if data == wanted else "other data"
    # The time is made a datetime.
    names = [name for name in wanted if name not in ("data", "time")]
    wrong = [name for name in names if attributes.get(name) != wanted[name]]
    return f"wrong attributes: {wrong}" if wrong else "right"


def of(event):
    return event.get_attributes(), event.get_data()


def of_v1(event):
    return event.get_attributes(), event.get_data()


READERS = {
    "from_structured": lambda h, k, v: of(kafka.from_structured(kafka.KafkaMessage(h, k, v), JSONFormat())),
    "from_kafka (detects the mode)": lambda h, k, v: of(kafka.from_kafka(kafka.KafkaMessage(h, k, v), JSONFormat())),
    "v1 from_structured": lambda h, k, v: of_v1(from_structured(KafkaMessage(h, k, v))),
}


def main():
    found = collections.defaultdict(collections.Counter)
    with open(sys.argv[1], encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            kind = "reference" if "claim_check" in line["headers"] else "event"
            for name, reader in READERS.items():
                found[kind, name][read_by(reader, line)] += 1
    for (kind, name), counts in sorted(found.items()):
        print(f"CloudEvents, Python, {name}, {kind}s: {dict(counts)}")
    # What CONSUMERS.md says of it; a newer SDK may do better, and then that page is to be corrected.
    verdicts = {at: set(counts) for at, counts in found.items()}
    assert verdicts["event", "from_structured"] == {"right"}
    assert verdicts["event", "v1 from_structured"] == {"wrong attributes: ['datacontenttype']"}
    assert verdicts["event", "from_kafka (detects the mode)"] == {"the whole envelope is read as its data"}
    assert verdicts["reference", "from_kafka (detects the mode)"] == {"taken for an event"}
    for name in ("from_structured", "v1 from_structured"):
        assert "taken for an event" not in verdicts["reference", name]


if __name__ == "__main__":
    main()
