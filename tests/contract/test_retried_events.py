"""Dead letters that are tried again, through the real views on both stores: the old number decides
only within the row, and what begins has the retry's own number.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from millrace.clock import ManualClock
from millrace.log.port import ORDER_HEADER, Record
from millrace.stores.port import ViewStore
from millrace.views import VIEWS, media, users
from millrace.views.comments import COMMENTS_BY_MEDIA
from millrace.views.comments import by_id as comments_by_id
from millrace.views.media import MEDIA_BY_AUTHOR
from streams.projection import Projection
from tests.histories import History, write
from tests.unit.test_views import DeadList, PlainOpener

ANA, PHOTO, REMARK = 1, 101, 201
REQUEST = b"request-00000000"


@pytest.fixture(params=["memory_store", "postgres_store"])
def store(request: pytest.FixtureRequest) -> ViewStore:
    found: ViewStore = request.getfixturevalue(request.param)
    return found


@dataclass
class Played:
    """Numbers leave no gaps: what is refused takes its number, too. One partition a topic."""

    store: ViewStore
    refused: list[Record] = field(default_factory=list)
    _ends: dict[str, int] = field(default_factory=dict)
    _projections: dict[str, Projection] = field(default_factory=dict)

    async def open(self) -> None:
        plain: Any = PlainOpener()
        dead: Any = DeadList()
        log: Any = None
        for view in VIEWS:
            await self.store.open_view(view.schema, dict.fromkeys(view.topics, 1), log_id=1)
            projection = Projection(view, self.store, log, plain, dead, ManualClock())
            places = [(topic, 0) for topic in view.topics]
            await projection.start_positions(places)
            self._projections.update(dict.fromkeys(view.topics, projection))

    async def take(self, *op: Any) -> int:
        return await self._append(write(History(), op))

    async def refuse(self, *op: Any) -> None:
        """The event became a letter: the view has passed it over."""
        record = write(History(), op)
        number = self._next(record.topic)
        self.refused.append(record._replace(number=number))

    async def retry(self, which: int = 0) -> int:
        record = self.refused[which]
        order = {ORDER_HEADER: record.number.to_bytes(8, "big")}
        return await self._append(record._replace(headers=order))

    def _next(self, topic: str) -> int:
        self._ends[topic] = self._ends.get(topic, 0) + 1
        return self._ends[topic]

    async def _append(self, record: Record) -> int:
        number = self._next(record.topic)
        placed = record._replace(partition=0, number=number)
        reader: Any = _One(placed)
        await self._projections[record.topic].step(reader, events_max=10, wait_s=0)
        return number


@dataclass
class _One:
    record: Record

    async def batch(self, records_max: int, wait_s: float) -> list[Record]:
        return [self.record]


@pytest.fixture
async def played(store: ViewStore) -> Played:
    made = Played(store)
    await made.open()
    return made


async def test_an_older_caption_does_not_replace_a_newer_one(played: Played) -> None:
    await played.take("upload", ANA, PHOTO, REQUEST)
    await played.refuse("caption", ANA, PHOTO, "older")
    await played.take("caption", ANA, PHOTO, "newer")
    await played.retry()
    assert (await media.by_id(played.store, [PHOTO]))[PHOTO].caption == "newer"


async def test_a_retried_upload_counts_from_its_own_number(played: Played) -> None:
    await played.refuse("upload", ANA, PHOTO, REQUEST)
    await played.take("caption", ANA, PHOTO, "of nothing yet")
    number = await played.retry()
    row = (await media.by_id(played.store, [PHOTO]))[PHOTO]
    assert (row.uploaded_number, row.caption) == (number, f"{PHOTO} by {ANA}")
    (shown,) = await MEDIA_BY_AUTHOR.page(played.store, ANA, before=None, limit=9)
    assert shown.version == number
    # Once: the second retry finds the id taken.
    await played.retry()
    assert (await media.by_id(played.store, [PHOTO]))[PHOTO].uploaded_number == number
    assert await MEDIA_BY_AUTHOR.count(played.store, [ANA]) == {ANA: 1}


async def test_a_retried_upload_does_not_bring_back_what_was_deleted(played: Played) -> None:
    await played.take("upload", ANA, PHOTO, REQUEST)
    await played.refuse("upload", ANA, PHOTO, REQUEST)
    await played.take("delete", ANA, PHOTO)
    await played.retry()
    assert await media.by_id(played.store, [PHOTO]) == {}
    assert await MEDIA_BY_AUTHOR.count(played.store, [ANA]) == {ANA: 0}


async def test_a_retried_end_is_final(played: Played) -> None:
    await played.take("comment", ANA, REMARK, PHOTO, REQUEST)
    await played.refuse("uncomment", ANA, REMARK, PHOTO)
    await played.retry()
    await played.retry()
    assert await comments_by_id(played.store, [REMARK]) == {}
    assert await COMMENTS_BY_MEDIA.count(played.store, [PHOTO]) == {PHOTO: 0}


async def test_an_older_profile_is_left_out(played: Played) -> None:
    await played.take("register", ANA)
    await played.refuse("profile", ANA, "older")
    await played.take("profile", ANA, "newer")
    await played.retry()
    assert (await users.by_id_deactivated_too(played.store, [ANA]))[ANA].bio == "newer"


async def test_an_older_update_is_left_out_whatever_the_newer_one_changed(played: Played) -> None:
    """A row has one order, not one a column: the runbook says so, and that the user asks again."""
    await played.take("register", ANA)
    await played.refuse("profile", ANA, "older")
    await played.take("deactivate", ANA)
    await played.take("reactivate", ANA)
    await played.retry()
    assert (await users.by_id_deactivated_too(played.store, [ANA]))[ANA].bio == ""


async def test_an_older_claim_does_not_take_a_name_that_was_had_and_freed(played: Played) -> None:
    name = b"%032d" % 1
    await played.refuse("claim", name, ANA, REQUEST)
    held = await played.take("claim", name, 2, REQUEST)
    await played.retry()
    row = (await users.NAMES.get_many(played.store, [(name,)]))[name,]
    assert (row.values["user_id"], row.values["claim_number"]) == (2, held)
