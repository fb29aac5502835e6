"""What the consumer has made of the events: the newest state of each stream, in SQLite."""

import json
import sqlite3

# What belongs to something is there only as long as that is, in the same incarnation: `ClassDeleted` ends the
# instances of a class without an event for each. An incarnation is the version of the event that created it. Events
# of a class and of its instances may arrive in any order, so this is asked when reading and not when applying.
SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    stream TEXT PRIMARY KEY, type TEXT NOT NULL, version INTEGER NOT NULL, parent TEXT,
    incarnation INTEGER, parent_incarnation INTEGER, alive INTEGER NOT NULL, data TEXT);
CREATE TABLE IF NOT EXISTS places (name TEXT PRIMARY KEY, place TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS offsets (
    topic TEXT, partition INTEGER, last INTEGER NOT NULL, event_id TEXT NOT NULL, PRIMARY KEY (topic, partition));
CREATE VIEW IF NOT EXISTS databases AS SELECT * FROM streams WHERE type = 'database' AND alive;
CREATE VIEW IF NOT EXISTS classes AS SELECT s.* FROM streams s JOIN databases p
    ON s.parent = p.stream AND s.parent_incarnation = p.incarnation WHERE s.type = 'class' AND s.alive;
CREATE VIEW IF NOT EXISTS instances AS SELECT s.* FROM streams s JOIN classes p
    ON s.parent = p.stream AND s.parent_incarnation = p.incarnation WHERE s.type = 'instance' AND s.alive;
"""
OURS = ("database", "class", "instance")
PARENTS = {"class": "database", "instance": "class"}
CONTENT = {"class": "definition", "instance": "data"}


class State:
    def __init__(self, path):
        self.db = sqlite3.connect(path)
        self.db.executescript(SCHEMA)

    def version(self, stream):
        row = self.db.execute("SELECT version FROM streams WHERE stream = ?", (stream,)).fetchone()
        return row[0] if row else 0

    def apply(self, event):
        """Takes in the next event of a stream."""
        stream, version, kind, data = event["subject"], event["streamversion"], event["streamtype"], event["data"]
        if version != self.version(stream) + 1:
            raise RuntimeError(f"{stream}: version {version} does not follow {self.version(stream)}")
        # An event of an instance or a class has all that is there after it; streams of other programs have whatever
        # they gave, and here the newest is kept.
        content = data.get(CONTENT[kind]) if kind in CONTENT else data
        self.db.execute(
            "INSERT INTO streams (stream, type, version, alive, data) VALUES (?, ?, ?, 1, ?) ON CONFLICT (stream)"
            " DO UPDATE SET version = excluded.version, data = excluded.data",
            (stream, kind, version, json.dumps(content)),
        )
        if event["type"] in ("DatabaseCreated", "ClassCreated", "InstanceCreated") and kind in OURS:
            parent = PARENTS.get(kind)
            above = f"{parent}/{event['streamid'].rpartition('/')[0]}" if parent else None
            self.db.execute(
                "UPDATE streams SET alive = 1, incarnation = ?, parent = ?, parent_incarnation = ? WHERE stream = ?",
                (version, above, data.get(f"{parent}_incarnation"), stream),
            )
        elif event["type"] in ("DatabaseDeleted", "ClassDeleted", "InstanceDeleted") and kind in OURS:
            self.db.execute("UPDATE streams SET alive = 0 WHERE stream = ?", (stream,))

    def place(self, name):
        row = self.db.execute("SELECT place FROM places WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_place(self, name, place):
        self.db.execute("REPLACE INTO places VALUES (?, ?)", (name, place))

    def offset(self, topic, partition):
        """The last offset that was read, and the id of the event that was there."""
        row = self.db.execute(
            "SELECT last, event_id FROM offsets WHERE topic = ? AND partition = ?", (topic, partition)
        ).fetchone()
        return row or (None, None)

    def set_offset(self, topic, partition, last, event_id):
        self.db.execute("REPLACE INTO offsets VALUES (?, ?, ?, ?)", (topic, partition, last, event_id))

    def forget_offset(self, topic, partition):
        with self.db:
            self.db.execute("DELETE FROM offsets WHERE topic = ? AND partition = ?", (topic, partition))
