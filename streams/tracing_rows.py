"""What one event did to the rows of one view, and what they are now.

The view's own `project` says which rows an event touches; their numbers say which event decided.
"""

from collections.abc import Sequence

from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.log.described import bytes_of
from millrace.relations import View
from millrace.stores.changes import Change, EdgeChange, Key, RowChange, RowCreate, Scalar
from millrace.stores.fold import Row
from millrace.stores.port import ViewStore
from millrace.stores.schema import EdgeTable, RowTable


async def rows(store: ViewStore, view: View, event: Event, *, texts: bool) -> list[str]:
    """`texts`: show text columns, which hold what users have written."""
    try:
        changes = view.project(event)
    except PoisonEvent as error:
        return [f"Its projection refuses the event: {error.message}."]
    told = []
    for change in changes:
        told += await _change(store, view, event, change, texts)
    return told or ["The event changes nothing here."]


async def _change(
    store: ViewStore, view: View, event: Event, change: Change, texts: bool
) -> list[str]:
    if isinstance(change, EdgeChange):
        (edges,) = [table for table in view.schema.edges if table.name == change.table]
        return await _edge(store, edges, event, change)
    (table,) = [table for table in view.schema.rows if table.name == change.table]
    told = await _row(store, table, event, change, texts)
    for then in getattr(change, "then", ()):
        told += await _change(store, view, event, then, texts)
    return told


async def _row(
    store: ViewStore, table: RowTable, event: Event, change: RowChange, texts: bool
) -> list[str]:
    name = f"{table.name} {_key(change.key)}"
    row = (await store.get_many(table, [change.key])).get(change.key)
    told = []
    if isinstance(change, RowCreate) and change.claim is not None:
        asked = (change.claim.actor_id, change.claim.request_id)
        made = (await store.claims(table, [asked])).get(asked)
        if made is None:
            told.append(f"Its request {asked[1].hex()} of {asked[0]} has created nothing.")
        else:
            who = "this event" if made.number == event.number else f"event {made.number}"
            told.append(f"Its request {asked[1].hex()} created {table.name} {made.key}: {who}.")
    if row is None:
        return [*told, f"Row {name} is not there."]
    state = "has ended" if row.ended else "stands"
    told.append(f"Row {name} {state}; {_decided(row, event)}.")
    return told + [f"  {column}: {value}" for column, value in _values(table, row, texts)]


def _decided(row: Row, event: Event) -> str:
    if row.number == event.order:
        return "this event changed it last"
    if row.number > event.order:
        return f"the newer event {row.number} changed it last"
    return f"this event has not changed it: event {row.number} did last"


def _values(table: RowTable, row: Row, texts: bool) -> Sequence[tuple[str, str]]:
    """Text of any kind is somebody's; secrets are bytes, and shown as such by their length."""
    told = []
    for column in table.columns:
        value = row.values[column.name]
        if column.type == "text" and not texts:
            told.append((column.name, f"({len(str(value))} characters)" if value else "empty"))
        elif isinstance(value, bytes) and column.name == "box":
            told.append((column.name, f"sealed ({len(value)} bytes)"))
        else:
            told.append((column.name, _shown(value)))
    return told


async def _edge(store: ViewStore, table: EdgeTable, event: Event, change: EdgeChange) -> list[str]:
    pair = (change.source, change.target)
    name = f"{table.name} {pair[0]} → {pair[1]}"
    edge = (await store.edges(table, [pair])).get(pair)
    if edge is None:
        told = [f"Edge {name} does not stand: it never began, or has ended."]
    elif edge.version == event.number:
        told = [f"Edge {name} stands and began with this event."]
    else:
        told = [f"Edge {name} stands and began with event {edge.version}."]
    if table.count:
        count = (await store.count(table, [pair[0]]))[pair[0]]
        told.append(f"  {table.count} of {pair[0]}: {count:,}")
    if table.inverse_count:
        count = (await store.count(table, [pair[1]], inverse=True))[pair[1]]
        told.append(f"  {table.inverse_count} of {pair[1]}: {count:,}")
    return told


def _key(key: Key) -> str:
    return "/".join(map(_shown, key))


def _shown(value: Scalar) -> str:
    return bytes_of(value) if isinstance(value, bytes) else str(value)
