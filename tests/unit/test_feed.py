"""GetFeed's reader on the twins, page by page, against the definition; also while it changes."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.log.codec import decode
from millrace.stores.changes import Batch, Change, Move
from millrace.stores.feed_memory import MemoryFeedStore
from millrace.stores.feed_port import FeedRow
from millrace.stores.memory import MemoryStore
from millrace.views import VIEWS
from millrace.views.feed import FeedReader
from tests.histories import PARTITIONS, History, write

VIEWER = 1
PEOPLE = range(1, 7)
PAGES_MAX = 100

people = st.sampled_from(PEOPLE)
changes = st.one_of(
    st.tuples(st.just("follow"), people),
    st.tuples(st.just("unfollow"), people),
    st.tuples(st.just("post"), people),
    st.tuples(st.just("post"), people),
    st.tuples(st.just("delete"), st.integers(0, 30)),
    # Rows of the fan-out: of some posts, whoever wrote them and whether or not they stand.
    st.tuples(st.just("deliver"), st.integers(0, 30)),
    st.tuples(st.just("deliver"), st.integers(0, 30)),
    st.tuples(st.just("deliver unknown"), people),
)


@dataclass
class World:
    views: MemoryStore = field(default_factory=MemoryStore)
    feeds: MemoryFeedStore = field(default_factory=MemoryFeedStore)
    history: History = field(default_factory=History)
    # (media id, author), and which of them stand; whom the viewer follows.
    posts: list[tuple[int, int]] = field(default_factory=list)
    standing: set[int] = field(default_factory=set)
    followed: set[int] = field(default_factory=set)

    async def open(self) -> None:
        for view in VIEWS:
            partitions = dict.fromkeys(view.topics, PARTITIONS)
            await self.views.open_view(view.schema, partitions, log_id=1)
        for person in PEOPLE:
            await self.say(("register", person))

    async def say(self, op: tuple) -> None:  # type: ignore[type-arg]
        """Written, and in the view when this returns."""
        record = write(self.history, op)
        view = next(view for view in VIEWS if record.topic in view.topics)
        event = decode(record)
        if op[0] == "register":
            event.text = b""
        taken: list[Change] = [*view.project(event)]
        move = Move(record.topic, record.partition, record.number - 1, record.number)
        await self.views.apply(view.schema, Batch(view.name, (move,), taken))

    async def change(self, kind: str, which: int) -> None:
        post = self.posts[which % len(self.posts)] if self.posts else None
        if kind in ("follow", "unfollow") and which != VIEWER:
            await self.say((kind, VIEWER, which))
            self.followed = self.followed | {which} if kind == "follow" else self.followed - {which}
        elif kind == "post":
            media_id = 100 + 10 * len(self.posts)
            await self.say(("upload", which, media_id, b"request-%08d" % media_id))
            self.posts.append((media_id, which))
            self.standing.add(media_id)
        elif kind == "delete" and post:
            await self.say(("delete", post[1], post[0]))
            self.standing.discard(post[0])
        elif kind == "deliver" and post:
            await self.feeds.write([FeedRow(VIEWER, *post)])
        elif kind == "deliver unknown":
            await self.feeds.write([FeedRow(VIEWER, 105 + 10 * len(self.posts), which)])

    def definition(self) -> set[int]:
        shown = {VIEWER, *self.followed}
        return {one for one, author in self.posts if author in shown and one in self.standing}


@settings(max_examples=150, deadline=None)
@given(before=st.lists(changes, max_size=50), limit=st.integers(1, 4), down=st.booleans())
def test_all_pages_together_are_the_definition(
    before: list[tuple[str, int]], limit: int, down: bool
) -> None:
    async def scenario() -> None:
        world = World()
        await world.open()
        for kind, which in before:
            await world.change(kind, which)
        world.feeds.up = not down
        reader = FeedReader(world.views, world.feeds)
        found: list[int] = []
        cursor = None
        while True:
            page = await reader.page(VIEWER, before=cursor, limit=limit)
            assert len(page.items) <= limit
            found += [item.row.media_id for item in page.items]
            if page.next_before is None:
                break
            # No page is empty unless what it would have shown has gone: and here nothing goes.
            assert page.items
            cursor = page.next_before
        assert found == sorted(world.definition(), reverse=True)
        assert page.rows_missing == down
        assert page.followees == len(world.followed)

    asyncio.run(scenario())


@settings(max_examples=150, deadline=None)
@given(
    before=st.lists(changes, min_size=5, max_size=50),
    between=st.lists(st.lists(changes, max_size=4), min_size=1, max_size=10),
    limit=st.integers(1, 4),
)
def test_what_changes_between_pages_costs_nothing_else(
    before: list[tuple[str, int]], between: list[list[tuple[str, int]]], limit: int
) -> None:
    async def scenario() -> None:
        world = World()
        await world.open()
        for kind, which in before:
            await world.change(kind, which)
        reader = FeedReader(world.views, world.feeds)
        always = world.definition()
        found: list[int] = []
        cursor = None
        for number in range(PAGES_MAX):
            page = await reader.page(VIEWER, before=cursor, limit=limit)
            shown = [item.row.media_id for item in page.items]
            assert set(shown) <= world.definition()
            found += shown
            if page.next_before is None:
                break
            cursor = page.next_before
            for kind, which in between[number] if number < len(between) else ():
                await world.change(kind, which)
                always &= world.definition()
        assert found == sorted(set(found), reverse=True)
        assert always <= set(found)

    asyncio.run(scenario())


async def test_a_hundred_followees_and_more_are_all_pulled() -> None:
    world = World()
    await world.open()
    wanted: defaultdict[int, int] = defaultdict(int)
    for person in range(10, 260):
        await world.say(("register", person))
        await world.say(("follow", VIEWER, person))
        await world.say(("upload", person, person * 10, b"request-%08d" % person))
        wanted[person] = person * 10
    reader = FeedReader(world.views, world.feeds)
    page = await reader.page(VIEWER, before=None, limit=100)
    assert page.followees == 250
    assert [item.row.media_id for item in page.items] == sorted(wanted.values())[:-101:-1]
