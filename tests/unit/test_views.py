"""Every `project`, through the projection, against a dict model.

Whatever the interleaving of partitions, the size of batches, redelivery and second workers:
the views are equal to the model, and counts equal their sets.
"""

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.clock import ManualClock
from millrace.errors import PoisonEvent
from millrace.log.codec import Event, sealed_of
from millrace.log.port import Record
from millrace.stores.memory import MemoryStore
from millrace.stores.port import ViewStore
from millrace.stores.schema import EdgeTable
from millrace.views import VIEWS, comments, follows, likes, media, saves, users
from millrace.views.users import NAMES, USERS
from streams.projection import Projection
from tests import histories
from tests.histories import History, Model, operations, write

TOPICS = {topic: histories.PARTITIONS for view in VIEWS for topic in view.topics}


class PlainOpener:
    """Histories seal nothing: the box is the text."""

    async def open(self, events: Sequence[Event]) -> dict[int, PoisonEvent]:
        for event in events:
            sealed = sealed_of(event.message)
            event.text = sealed.box if sealed else b""
        return {}


class DeadList:
    """Dead letters in a list."""

    def __init__(self) -> None:
        self.letters: list[tuple[Record, str]] = []

    async def put(self, record: Record, reason: str) -> None:
        self.letters.append((record, reason))

    def count(self, events: int) -> None:
        pass


class ShuffledReader:
    """Reads partitions in any order, in batches of any size, and again what it has read."""

    def __init__(self, history: History, topics: Sequence[str], seed: int) -> None:
        self._records = {
            key: records for key, records in history.partitions.items() if key[0] in topics
        }
        self._next = dict.fromkeys(self._records, 0)
        self._random = random.Random(seed)

    def seek(self, topic: str, partition: int, position: int) -> None:
        self._next[topic, partition] = position

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        batch: list[Record] = []
        for key, records in sorted(self._records.items(), key=lambda _: self._random.random()):
            start = max(self._next[key] - self._random.choice([0, 0, 0, 2]), 0)
            room = records_max - len(batch)
            end = min(start + self._random.randint(0, room), len(records))
            self._next[key] = max(end, self._next[key])
            batch += records[start:end]
        return batch

    def lag(self) -> dict[tuple[str, int], int]:
        return {key: len(records) - self._next[key] for key, records in self._records.items()}

    def done(self) -> bool:
        return all(self._next[key] == len(records) for key, records in self._records.items())

    async def close(self) -> None:
        pass


async def project_all(history: History, seed: int, store: ViewStore) -> None:
    chooser = random.Random(seed)
    for view in VIEWS:
        await store.open_view(view.schema, TOPICS, log_id=1)
        workers = []
        for number in range(2):
            projection = Projection(
                view=view,
                store=store,
                log=None,  # type: ignore[arg-type]
                opener=PlainOpener(),  # type: ignore[arg-type]
                dead=DeadList(),
                clock=ManualClock(),
            )
            partitions = [(topic, one) for topic in view.topics for one in range(TOPICS[topic])]
            await projection.start_positions(partitions)
            workers.append((projection, ShuffledReader(history, view.topics, seed + number)))
        while not all(reader.done() and not worker.ahead for worker, reader in workers):
            projection, reader = chooser.choice(workers)
            before = await store.positions(view.name)
            await projection.step(reader, events_max=chooser.randint(1, 7), wait_s=0)
            after = await store.positions(view.name)
            assert all(row.position <= after[key].position for key, row in before.items())


async def live_pairs(store: ViewStore, table: EdgeTable) -> set[tuple[int, int]]:
    return {(row.source, row.target) async for row in store.scan_edges(table)}


async def check_equal(store: ViewStore, model: Model) -> None:
    everyone = list(histories.USERS)
    found_follows = await live_pairs(store, follows.FOLLOWS.table)
    assert found_follows == set(model.follows)
    pairs = list(model.follows)
    edges = await store.edges(follows.FOLLOWS.table, pairs)
    assert {pair: edge.version for pair, edge in edges.items()} == model.follows
    assert await follows.FOLLOWS.count(store, everyone) == {
        one: sum(follower == one for follower, _ in model.follows) for one in everyone
    }
    assert await follows.FOLLOWS.inverse_count(store, everyone) == {
        one: sum(followee == one for _, followee in model.follows) for one in everyone
    }
    found_likes = await live_pairs(store, likes.LIKES.table)
    assert found_likes == model.likes
    liked = list(histories.MEDIA)
    assert await likes.LIKES.count(store, liked) == {
        one: sum(item == one for item, _ in model.likes) for one in liked
    }
    assert await live_pairs(store, saves.SAVES.table) == model.saves
    assert await saves.SAVES.count(store, everyone) == {
        one: sum(user == one for user, _ in model.saves) for one in everyone
    }
    for user in everyone:
        page = await saves.SAVES.page(store, user, after=None, limit=100)
        mine = [item for owner, item in model.saves if owner == user]
        assert [row.target for row in page] == sorted(mine, reverse=True)
    standing = {media_id: author for media_id, (author, stands) in model.media.items() if stands}
    rows = await media.by_id(store, model.media)
    assert {media_id: row.author_id for media_id, row in rows.items()} == standing
    assert {media_id: row.caption for media_id, row in rows.items()} == {
        media_id: model.captions[media_id] for media_id in standing
    }
    assert await media.MEDIA_BY_AUTHOR.count(store, everyone) == {
        one: sum(author == one for author in standing.values()) for one in everyone
    }
    for (author, request), media_id in model.requests.items():
        claim = await media.MEDIA.claimed_by(store, author, request)
        assert claim is not None
        assert claim.key == media_id
    await check_comments(store, model)
    holders = await users.by_name(store, model.names)
    found_names = {name: (row.user_id, row.claim_number) for name, row in holders.items()}
    assert found_names == model.names
    found = await USERS.get_many(store, [(one,) for one in everyone])
    assert {key[0]: row.values["bio"] for key, row in found.items()} == model.bios
    cited = {
        key[0]: tuple(row.values[column] for column in ("name_key", "claim_number", "handle"))
        for key, row in found.items()
    }
    assert cited == model.handles
    shown = await users.by_id(store, everyone)
    assert {user_id: row.handle for user_id, row in shown.items()} == model.shown()
    assert NAMES.reusable


async def check_comments(store: ViewStore, model: Model) -> None:
    rows = await comments.by_id_deleted_too(store, model.comments)
    assert {
        comment_id: (row.media_id, row.author_id, not row.deleted)
        for comment_id, row in rows.items()
    } == model.comments
    for comment_id, row in rows.items():
        assert row.text == f"{comment_id} by {row.author_id}"
        assert row.mentioned_ids == (row.author_id + 1, 0)
    standing = {
        (item, comment_id) for comment_id, (item, _, stands) in model.comments.items() if stands
    }
    assert await live_pairs(store, comments.COMMENTS_BY_MEDIA.table) == standing
    items = list(histories.MEDIA)
    assert await comments.COMMENTS_BY_MEDIA.count(store, items) == {
        one: sum(item == one for item, _ in standing) for one in items
    }
    for (author, request), comment_id in model.comment_requests.items():
        claim = await comments.COMMENTS.claimed_by(store, author, request)
        assert claim is not None
        assert claim.key == comment_id


@settings(max_examples=150, deadline=None)
@given(ops=operations, seed=st.integers(0, 2**32))
async def test_views_equal_the_model_in_any_interleaving(
    ops: list[tuple],  # type: ignore[type-arg]
    seed: int,
) -> None:
    history, model = History(), Model()
    for op in ops:
        model.apply(op, write(history, op))
    store = MemoryStore()
    await project_all(history, seed, store)
    await check_equal(store, model)


async def test_a_poison_record_becomes_a_dead_letter_and_the_rest_goes_on() -> None:
    history = History()
    write(history, ("like", 1, 7))
    partition = next(iter(history.partitions))[1]
    key = history.partitions["likes", partition][0].key
    history.append("likes", key, b"\xff\xff not protobuf")
    history.append("likes", b"of nobody", history.partitions["likes", partition][0].value or b"")
    write(history, ("like", 1, 8))
    store, dead = MemoryStore(), DeadList()
    await store.open_view(likes.VIEW.schema, TOPICS, log_id=1)
    projection = Projection(
        view=likes.VIEW,
        store=store,
        log=None,  # type: ignore[arg-type]
        opener=PlainOpener(),  # type: ignore[arg-type]
        dead=dead,
        clock=ManualClock(),
    )
    await projection.start_positions([("likes", one) for one in range(histories.PARTITIONS)])
    reader = ShuffledReader(history, ["likes"], 0)
    while not reader.done() or projection.ahead:
        await projection.step(reader, events_max=10, wait_s=0)
    assert await likes.LIKES.count(store, [7, 8]) == {7: 1, 8: 1}
    assert sorted(letter.value or b"" for letter, _ in dead.letters)[-1].startswith(b"\xff")
    assert len(dead.letters) == 2
