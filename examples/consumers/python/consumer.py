"""A consumer of oms that misses nothing and applies nothing twice.

It keeps the newest state of every stream in SQLite: first it reads the feed up to its end, then it follows Kafka.

    pip install confluent-kafka
    python consumer.py --api http://127.0.0.1:8000 --kafka 127.0.0.1:9092 --state copy.db

Kill it, start it again, as often as you like: it goes on where it was. With tokens configured set OMS_TOKEN (role
`read`). With `--s3` (and `pip install boto3`, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
AWS_REGION) references and gaps are read from the bucket, and from the API only what is not there.

Offsets are kept in SQLite beside the state, not in a group of the broker: one transaction holds both, so a crash can
neither skip nor repeat. With each goes the id of the event that was read there. On the way in that message is read
again; where it is not the same the broker has forgotten, and the feed fills what was lost.
"""

import argparse
import json
import os
import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

from sources import Api, Bucket
from state import State

KINDS = ("database", "class", "instance", "stream")

class Follower:
    """Follows the topics and keeps the state."""

    def __init__(self, options):
        self.api = Api(options.api)
        self.bucket = Bucket() if options.s3 else None
        self.state = State(options.state)
        self.sweep = options.sweep
        self.topics = [f"{options.prefix}.{kind}" for kind in KINDS]
        self.swept = 0.0
        # What is expected of the first message of a partition: the one that was read last.
        self.expected = {}
        # That the broker was away: it may have forgotten.
        self.was_away = False
        self.consumer = Consumer({
            "bootstrap.servers": options.kafka,
            "group.id": "not-used",
            "enable.auto.commit": False,
            # An offset that the broker does not have is told, instead of passed over.
            "auto.offset.reset": "error",
            "reconnect.backoff.max.ms": 1000,
            "error_cb": self.on_error,
        })

    def on_error(self, error):
        """Called by the client, from within `poll`."""
        self.was_away = self.was_away or error.code() == KafkaError._ALL_BROKERS_DOWN

    def say(self, word, **more):
        print(json.dumps({"event": word, **more}), flush=True)

    def catch_up(self):
        """Reads the feed to its end. The cursor is kept with what was made of its events."""
        if not self.sweep:
            return
        applied = 0
        for events, after in self.api.feed(self.state.place("feed")):
            with self.state.db:
                for event in events:
                    applied += self.apply(event)
                self.state.set_place("feed", after)
        self.swept = time.monotonic()
        self.say("swept", applied=applied)

    def apply(self, event, position=None):
        """Takes in one event, if it is new. What lies between it and the last one is read first."""
        known, version = self.state.version(event["subject"]), event["streamversion"]
        if version <= known:
            return 0
        missing = self.missing(event, known + 1, position) if version > known + 1 else []
        for each in [*missing, event]:
            self.state.apply(each)
        return len(missing) + 1

    def missing(self, event, first, position):
        """The events of this event's stream from version `first` up to the one before it."""
        last, found = event["streamversion"] - 1, None
        if self.bucket and position:
            found = self.bucket.before(event["subject"], first, last, position)
        source = "bucket" if found else "API"
        found = found or self.api.stream(event, first, last)
        if [each["streamversion"] for each in found] != list(range(first, last + 1)):
            raise RuntimeError(f"{event['subject']}: versions {first} to {last} are nowhere")
        self.say("gap", stream=event["subject"], first=first, last=last, source=source)
        return found

    def event_of(self, message, headers):
        """The event of a message: its value, or what the reference in its place leads to."""
        if headers.get("claim_check") != "true":
            return json.loads(message.value())
        reference = json.loads(message.value())
        event = self.bucket.referred(reference) if self.bucket and "s3" in reference else None
        self.say("reference", id=reference["event_id"], source="bucket" if event else "API")
        event = event or self.api.referred(reference)
        if event["id"] != reference["event_id"]:
            raise RuntimeError(f"{reference['href']} is not event {reference['event_id']}")
        return event

    def begin(self):
        """Goes on where the state ends. Topics that appeared meanwhile are found too."""
        self.was_away = False
        known = self.consumer.list_topics(timeout=30).topics
        assigned, self.expected = [], {}
        for topic in self.topics:
            for partition in known[topic].partitions if topic in known else []:
                low, high = self.consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
                last, event_id = self.state.offset(topic, partition)
                if last is not None and low <= last < high:
                    self.expected[topic, partition] = event_id
                    assigned.append(TopicPartition(topic, partition, last))
                    continue
                if last is not None:
                    self.say("forgot", topic=topic, partition=partition)
                assigned.append(TopicPartition(topic, partition, low))
        self.consumer.assign(assigned)
        # After the assignment: what comes from now on is in Kafka, what came before in the feed.
        self.catch_up()

    def is_as_it_was(self, message, headers):
        """Whether the message at the place where the state ends is the one that was read there."""
        wanted = self.expected.pop((message.topic(), message.partition()), headers["ce_id"])
        if wanted != headers["ce_id"]:
            self.say("forgot", topic=message.topic(), partition=message.partition())
            self.state.forget_offset(message.topic(), message.partition())
        return wanted == headers["ce_id"]

    def take(self, message):
        """Takes in one message: its event and its offset in one transaction."""
        headers = {name: value.decode() for name, value in message.headers()}
        if not self.is_as_it_was(message, headers):
            return self.begin()
        event = self.event_of(message, headers)
        with self.state.db:
            applied = self.apply(event, headers["position"])
            self.state.set_offset(message.topic(), message.partition(), message.offset(), headers["ce_id"])
        if applied:
            self.say("applied", stream=event["subject"], version=event["streamversion"], count=applied)

    def run(self):
        """For ever."""
        self.begin()
        while True:
            message = self.consumer.poll(1.0)
            if message is not None and message.error() is None:
                self.take(message)
            elif message is not None and message.error().code() == KafkaError._AUTO_OFFSET_RESET:
                self.begin()
            elif self.was_away and message is None:
                self.begin()
            elif self.sweep and time.monotonic() - self.swept > self.sweep:
                self.begin()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--api", default="http://127.0.0.1:8000")
    parser.add_argument("--kafka", required=True, help="host:port")
    parser.add_argument("--state", default="copy.db", help="SQLite file")
    parser.add_argument("--prefix", default="oms", help="kafka.topic_prefix of the service")
    parser.add_argument("--sweep", type=int, default=60, metavar="SECONDS",
                        help="how often the feed is read to its end; 0: never, then only missing versions are noticed")
    parser.add_argument("--s3", action="store_true", help="read references and gaps from the bucket")
    options = parser.parse_args()
    try:
        Follower(options).run()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
