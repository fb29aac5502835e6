"""Where a consumer gets what Kafka does not give it: the HTTP API, and the bucket."""

import hashlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request

# How long an API that does not answer is asked again, in seconds.
PATIENCE = 120


class Api:
    """What a consumer needs of the HTTP API."""

    def __init__(self, base):
        self.base = base.rstrip("/")

    def get(self, path):
        """Asks until it is answered: reading twice does no harm."""
        deadline = time.monotonic() + PATIENCE
        while True:
            request = urllib.request.Request(self.base + path)
            if os.environ.get("OMS_TOKEN"):
                request.add_header("Authorization", "Bearer " + os.environ["OMS_TOKEN"])
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except OSError as error:
                status = getattr(error, "code", 503)
                if status not in (429, 503) or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def feed(self, after):
        """Pages of every event, from a cursor on."""
        while True:
            query = {"limit": 1000} | ({"after": after} if after else {})
            page = self.get("/api/v1/events?" + urllib.parse.urlencode(query))
            if not page["items"]:
                return
            after = page["next_cursor"]
            yield page["items"], after

    def stream(self, event, first, last):
        """Events of the stream that this event belongs to."""
        # Its id is percent-encoded components; in the path it is one segment.
        components = [urllib.parse.unquote(each) for each in event["streamid"].split("/")]
        stream_id = urllib.parse.quote("/".join(components), safe="")
        path = f"/api/v1/streams/{event['streamtype']}/{stream_id}/events"
        found = []
        while first <= last:
            items = self.get(f"{path}?from_version={first}&limit={min(last - first + 1, 1000)}")["items"]
            if not items:
                break
            found += items
            first += len(items)
        return found

    def referred(self, reference):
        """The event that a reference stands for."""
        (event,) = self.get(reference["href"])["items"]
        return event


class Bucket:
    """The log itself. Any S3 client will do."""

    def __init__(self):
        import boto3  # Only for those who read the bucket.

        self.s3 = boto3.client("s3")
        self.name = os.environ.get("OMS_BUCKET", "spice-event-store")

    def object(self, bucket, key, **more):
        """The bytes of an object; nothing where it is not (yet): a mirror may be behind."""
        try:
            return self.s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None

    def referred(self, reference):
        """The event that a reference stands for, by one ranged GET, with its hash checked."""
        place, length = reference["s3"], reference["length"]
        first = place["offset"]
        body = self.object(place["bucket"], place["key"], Range=f"bytes={first}-{first + length - 1}")
        if body is None:
            return None
        if hashlib.sha256(body).hexdigest() != reference["sha256"]:
            raise RuntimeError(f"{place['key']}: the bytes are not those of event {reference['event_id']}")
        return json.loads(body)

    def before(self, stream, first, last, position):
        """Versions `first` to `last` of a stream, or nothing. All of a stream's events are in one partition of the
        log, the older ones in front: from the place of a newer one it is walked back."""
        partition, offset, _ = (int(each) for each in position.split("/"))
        found = {}
        while offset >= 0 and len(found) < last - first + 1:
            body = self.object(self.name, f"events/{partition:04}/{offset:020}.ndjson")
            if body is None:
                return None
            # The first line is the header of the object.
            for line in body.splitlines()[1:]:
                event = json.loads(line)
                if event.get("subject") == stream and first <= event["streamversion"] <= last:
                    found[event["streamversion"]] = event
            offset -= 1
        return [found[version] for version in sorted(found)]
