#!/usr/bin/env python3
"""Makes the two data files of `oms demo` from the npm package vega-datasets 3.2.1.

    npm pack vega-datasets@3.2.1 && tar xzf vega-datasets-3.2.1.tgz
    python3 make.py package/data .

Line 0 of a file lists the field names, every further line the values of one record in that
order; what is missing is null. Values are as published but for what README.md says.
"""

import csv
import json
import sys
from datetime import datetime, timezone
from pathlib import Path


def write(path, fields, records):
    lines = [json.dumps(fields)]
    lines += [json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def instant(milliseconds):
    seconds, rest = divmod(milliseconds, 1000)
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:03}Z"


def earthquakes(source, target):
    kept = "mag magType place time updated felt cdi mmi alert status tsunami sig net sources types nst dmin rms gap type".split()
    features = json.loads((source / "earthquakes.json").read_text("utf-8"))["features"]
    records = []
    for feature in features:
        values = feature["properties"]
        values = values | {k: instant(values[k]) for k in ("time", "updated")}
        longitude, latitude, depth = feature["geometry"]["coordinates"]
        records.append([feature["id"], *(values[k] for k in kept), latitude, longitude, depth])
    write(target / "earthquakes.jsonl", ["id", *kept, "latitude", "longitude", "depth"], records)


def strikes(source, target):
    names = {
        "Airport Name": "airport", "Aircraft Make Model": "aircraft",
        "Effect Amount of damage": "damage", "Flight Date": "date",
        "Aircraft Airline Operator": "operator", "Origin State": "origin_state",
        "Phase of flight": "phase", "Wildlife Size": "wildlife_size",
        "Wildlife Species": "species", "Time of day": "time_of_day", "Cost Other": "cost_other",
        "Cost Repair": "cost_repair", "Cost Total $": "cost_total",
        "Speed IAS in knots": "speed_knots",
    }
    numbers = {"cost_other", "cost_repair", "cost_total", "speed_knots"}
    records = []
    with open(source / "birdstrikes.csv", encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 1):
            record = [f"{number:05}"]
            for theirs, ours in names.items():
                text = row[theirs]
                value = None if text == "" else text
                if value is not None and ours in numbers:
                    value = int(text)
                record.append(value)
            records.append(record)
    write(target / "wildlife-strikes.jsonl", ["id", *names.values()], records)


source, target = map(Path, sys.argv[1:])
earthquakes(source, target)
strikes(source, target)
