"""A round trip with a client that openapi-python-client made of docs/openapi.json."""

import os
import time

from oms_client import AuthenticatedClient, Client
from oms_client import models as m
from oms_client.api.classes import create_class
from oms_client.api.databases import create_database
from oms_client.api.events import get_command, read_feed
from oms_client.api.instances import (
    create_instance,
    delete_instance,
    get_instance,
    patch_instance,
    query_instances,
)
from oms_client.api.streams import append_events

API = os.environ["OMS_API"]
TOKEN = os.environ.get("OMS_TOKEN")
client = AuthenticatedClient(API, TOKEN) if TOKEN else Client(API)
db = f"py{int(time.time() * 1000):x}"


def answer(response, status, kind):
    assert response.status_code == status, (response.status_code, response.content)
    assert isinstance(response.parsed, kind), (type(response.parsed), response.content)
    return response.parsed


def problem(response, status, code):
    found = answer(response, status, m.Problem)
    assert (found.status, found.code) == (status, code), found
    return found


made = create_database.sync_detailed(client=client, body=m.CreateDatabase(name=db))
assert answer(made, 201, m.WriteAnswer).id == db
again = create_database.sync_detailed(client=client, body=m.CreateDatabase(name=db))
problem(again, 409, "database_exists")

film = m.ClassDefinition.from_dict({
    "id": "Film",
    "label": "Film",
    "properties": [
        {"name": "title", "type": "string", "required": True, "constraints": {"min_length": 1}},
        {"name": "year", "type": "integer", "constraints": {"min": 1888, "max": 2100}},
    ],
})
answer(create_class.sync_detailed(db, client=client, body=film), 201, m.WriteAnswer)


def instance(**body):
    body = m.CreateInstance.from_dict(body)
    return create_instance.sync_detailed(db, "Film", client=client, body=body, idempotency_key=f"{db}-{body.id}")


data = {"title": "Metropolis", "year": 1927}
created = instance(id="f1", data=data, metadata={"by": "ann"})
assert answer(created, 201, m.WriteAnswer).version == 1
assert created.headers["etag"] == '"1"'
assert answer(instance(id="f1", data=data, metadata={"by": "ann"}), 201, m.WriteAnswer).version == 1
refused = problem(instance(id="f2", data={"year": 1700}), 422, "validation_failed")
assert sorted((v.field, v.code) for v in refused.violations) == [("data.title", "required"), ("data.year", "min")]


def patch(**change):
    body = m.PatchInstanceBody.from_dict(change)
    return patch_instance.sync_detailed(db, "Film", "f1", client=client, body=body, if_match='"1"')


changed = answer(patch(year=1926), 200, m.WriteAnswer)
assert changed.version == 2
assert problem(patch(year=1925), 412, "version_mismatch").actual_version == 2

query = m.InstanceQuery.from_dict({
    "filters": [{"field": "year", "op": "lt", "value": 1950}],
    "sort": ["-year", {"field": "id"}],
    "limit": 10,
})
page = query_instances.sync_detailed(db, "Film", client=client, body=query, x_min_position=changed.position)
(item,) = answer(page, 200, m.ResourcePage).items
assert (item.id, item.version, item.data.to_dict()) == ("f1", 2, {"title": "Metropolis", "year": 1926})

problem(get_instance.sync_detailed(db, "Film", "nobody", client=client), 404, "instance_not_found")
known = get_instance.sync_detailed(db, "Film", "f1", client=client, if_none_match='"2"')
assert known.status_code == 304, known.status_code

events = m.Append.from_dict({"events": [{"type": "OrderPlaced", "data": {"total": 12.5, "lines": [1, "two", None]}}]})
answer(append_events.sync_detailed("order", db, client=client, body=events), 201, m.WriteAnswer)

types, cursor = [], None
for _ in range(1000):
    more = {"after": cursor} if cursor else {}
    page = answer(read_feed.sync_detailed(client=client, limit=100, **more), 200, m.EventPage)
    if not page.items:
        break
    types += [f"{e.streamversion} {e.type_}" for e in page.items if e.streamid.split("/")[0] == db]
    cursor = page.next_cursor
expected = ["1 ClassCreated", "1 DatabaseCreated", "1 InstanceCreated", "1 OrderPlaced", "2 InstanceUpdated"]
assert sorted(types) == expected, types

command = answer(get_command.sync_detailed(changed.command_id, client=client), 200, m.CommandAnswer)
assert command.status == "committed", command
answer(delete_instance.sync_detailed(db, "Film", "f1", client=client), 200, m.WriteAnswer)
print(f"Python: the round trip on {db} is done")
