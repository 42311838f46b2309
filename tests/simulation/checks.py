"""What must hold: views, counts and feeds against the oracle, rows that are owed, dead letters.

The oracle is fed with the log up to the positions of the very store that is looked at, so that a
store may be looked at in the middle of everything, or be a replica that lags.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

from google.protobuf.message import Message

from millrace.auth import sealing
from millrace.log.codec import sealed_of
from millrace.log.port import ORDER_HEADER
from millrace.log.topics import TOPICS
from millrace.oracle import Oracle
from millrace.views import VIEWS
from millrace.views.comments import COMMENTS, COMMENTS_BY_MEDIA
from millrace.views.feed import FeedReader
from millrace.views.follows import FOLLOWS
from millrace.views.likes import LIKES
from millrace.views.media import MEDIA, MEDIA_BY_AUTHOR
from millrace.views.saves import SAVES
from millrace.views.users import NAMES, USERS
from social.log.v1.dead_pb2 import DeadLetter
from social.log.v1.follows_pb2 import UserFollowed, UserUnfollowed
from streams.owed_rows import check_owed_rows
from tests.simulation.clients import USERS_MAX, data_key
from tests.simulation.stores import SimulatedViews
from tests.simulation.world import World

TOPIC_OF = {topic: view.name for view in VIEWS for topic in view.topics}
FEED_PAGE = 3
RECORDS_MAX = 1_000_000


class Checks:
    """The checks of one world. Each returns the first thing that is not as it must be, or ""."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._parsed: dict[tuple[str, int, int], tuple[Message, bytes, int] | None] = {}

    def look(self) -> str:
        """The views as they are served now, every row."""
        return str(self.world.now(self._compare(self.world.views)))

    def read(self, user: int, copy: str = "") -> str:
        """One feed, from the views as served or from a copy that lags."""
        views = self.world.copies.get(copy, self.world.views)
        oracle = self.oracle(views)
        return str(self.world.now(self._feed(views, oracle, user)))

    def settled(self) -> str:
        """Everything, when everybody has caught up."""
        world = self.world
        oracle = self.oracle(world.views)
        return (
            self.look()
            or world.now(self._feeds(oracle))
            or world.now(self._owed_rows())
            or world.now(self._owed_by_the_world())
            or self._letters()
            or self._names(oracle)
            or self._epochs()
        )

    def oracle(self, views: SimulatedViews) -> Oracle:
        oracle = Oracle()
        for topic, view in TOPIC_OF.items():
            if topic == "vault":
                continue
            for (of, partition), position in views.at_positions(view).items():
                if of == topic:
                    for number, message, text in self._events(topic, partition, position):
                        oracle.apply(message, number=number, text=text)
        return oracle

    def _events(
        self, topic: str, partition: int, position: int
    ) -> Iterator[tuple[int, Message, bytes]]:
        """In the order that counts: a letter that is tried again has its old place."""
        found = list(self._arrived(topic, partition, position))
        orders = [order for order, *_ in found]
        if any(order < before for before, order in pairwise(orders)):
            found.sort(key=lambda one: one[:2])
        for _, number, message, text in found:
            yield number, message, text

    def _arrived(
        self, topic: str, partition: int, position: int
    ) -> Iterator[tuple[int, int, Message, bytes]]:
        for record in self.world.log.after(topic, partition, 0, position):
            place = (topic, partition, record.number)
            if place in self.world.poison:
                continue
            if place not in self._parsed:
                self._parsed[place] = _parse(record)
            message, text, order = cast(tuple[Message, bytes, int], self._parsed[place])
            yield order, record.number, message, text

    async def _compare(self, views: SimulatedViews) -> str:
        oracle = self.oracle(views)
        users = {
            key[0]: (v["name_key"], v["claim_number"], v["handle"], v["display_name"], v["bio"],
                     v["deactivated"])
            for key, v in await _rows(views, USERS)
        }  # fmt: skip
        wanted_users = {
            one: (user.name_key, user.claim_number, user.handle, user.display_name, user.bio,
                  user.deactivated)
            for one, user in oracle.users.items()
        }  # fmt: skip
        names = {key[0]: (v["user_id"], v["claim_number"]) for key, v in await _rows(views, NAMES)}
        wanted_names = {k: (name.user_id, name.claim_number) for k, name in oracle.names.items()}
        media = {
            key[0]: (v["author_id"], v["content_sha256"], v["size_bytes"], v["caption"])
            for key, v in await _rows(views, MEDIA)
        }
        wanted_media = {
            one: (item.author_id, item.content_sha256, item.size_bytes, item.caption)
            for one, item in oracle.media.items()
            if not item.deleted
        }
        said = {
            key[0]: (v["media_id"], v["author_id"], v["text"])
            for key, v in await _rows(views, COMMENTS)
        }
        wanted_said = {
            one: (comment.media_id, comment.author_id, comment.text)
            for one, comment in oracle.comments.items()
            if not comment.deleted
        }
        return (
            _differ("users", users, wanted_users)
            or _differ("names", names, wanted_names)
            or _differ("media", media, wanted_media)
            or _differ("comments", said, wanted_said)
            or await _requests(views, MEDIA, oracle.uploads)
            or await _requests(views, COMMENTS, oracle.remarks)
            or await self._versions(views)
            or await self._edges(views, oracle)
        )

    async def _versions(self, views: SimulatedViews) -> str:
        """Which event began each follow: what is owed to a feed goes by it."""
        begun: dict[tuple[int, int], int] = {}
        newest: dict[tuple[int, int], int] = {}
        for (topic, partition), position in views.at_positions("follows").items():
            for order, number, message, _ in self._arrived(topic, partition, position):
                event = cast(UserFollowed | UserUnfollowed, message)
                pair = event.follower_id, event.followee_id
                if order <= newest.get(pair, 0):
                    continue
                newest[pair] = order
                if isinstance(event, UserFollowed):
                    begun.setdefault(pair, number)
                else:
                    begun.pop(pair, None)
        rows = views.scan_edges(FOLLOWS.table)
        there = {(row.source, row.target): row.version async for row in rows}
        return _differ("version of follow", there, begun)

    async def _edges(self, views: SimulatedViews, oracle: Oracle) -> str:
        for edge, wanted, back in (
            (FOLLOWS, oracle.following, oracle.followers),
            (LIKES, oracle.likers, None),
            (MEDIA_BY_AUTHOR, oracle.media_of, None),
            (COMMENTS_BY_MEDIA, oracle.comments_of, None),
            (SAVES, oracle.saved, None),
        ):
            table = edge.table
            there = {(row.source, row.target) async for row in views.scan_edges(table)}
            pairs = {(one, other) for one, others in wanted.items() for other in others}
            if there != pairs:
                return f"{edge.name}: {sorted(there ^ pairs)[:3]} differ"
            counts = dict([pair async for pair in views.scan_counts(table)])
            if wrong := _differ(f"counts of {edge.name}", counts, _counted(wanted)):
                return wrong
            if back is None:
                continue
            counts = dict([pair async for pair in views.scan_counts(table, inverse=True)])
            if wrong := _differ(f"inverse counts of {edge.name}", counts, _counted(back)):
                return wrong
        return ""

    async def _feeds(self, oracle: Oracle) -> str:
        for user in range(1, USERS_MAX + 1):
            if wrong := await self._feed(self.world.views, oracle, user):
                return wrong
        return ""

    async def _feed(self, views: SimulatedViews, oracle: Oracle, user: int) -> str:
        reader, before, found = FeedReader(views, self.world.feeds), None, []
        wanted = oracle.feed(user)
        while True:
            page = await reader.page(user, before=before, limit=FEED_PAGE)
            for item in page.items:
                media_id = item.row.media_id
                found.append(media_id)
                drawn = (item.likes, item.comments, item.viewer_likes, item.author.handle)
                right = (
                    oracle.count_likes(media_id), oracle.count_comments(media_id),
                    user in oracle.likers.get(media_id, ()), oracle.handle(item.row.author_id),
                )  # fmt: skip
                if drawn != right:
                    return f"item {media_id} in the feed of {user} is drawn {drawn}, not {right}"
            before = page.next_before
            if before is None or len(found) > len(wanted):
                break
        return "" if found == wanted else f"the feed of {user} is {found}, not {wanted}"

    async def _owed_rows(self) -> str:
        world = self.world
        owed = await check_owed_rows(world.log, world.views, world.feeds)
        if owed.unplanned:
            return f"post {owed.unplanned[0]} was never planned and a mark has passed it"
        if owed.missing:
            user, media_id, _ = owed.missing[0]
            return f"post {media_id} is owed to the feed of {user} and is not there"
        return ""

    async def _owed_by_the_world(self) -> str:
        """By the simulation's own books: who followed when the post was written."""
        world = self.world
        asked = [(follower, author) for _, author, follower, _ in world.owed]
        live = await world.views.edges(FOLLOWS.table, asked)
        stand = await world.views.get_many(MEDIA.table, [(one[0],) for one in world.owed])
        rows = await world.feeds.has_many([(one[2], one[0]) for one in world.owed])
        for media_id, author, follower, version in sorted(world.owed):
            edge, row = live.get((follower, author)), stand.get((media_id,))
            follows = edge is not None and edge.version == version
            stands = row is not None and not row.ended and row.values["author_id"] == author
            if follows and stands and (follower, media_id) not in rows:
                return f"user {follower} followed before post {media_id} and has no row of it"
        return ""

    def _letters(self) -> str:
        """Only what was planted is dead, and all of it is kept."""
        there: set[tuple[str, int, int]] = set()
        for topic in TOPICS:
            if not topic.endswith(".dead"):
                continue
            for partition in range(self.world.log.partitions_of(topic)):
                for record in self.world.log.after(topic, partition, 0, RECORDS_MAX):
                    letter = DeadLetter.FromString(record.value or b"")
                    there.add((letter.topic, letter.partition, letter.number))
        if extra := there - self.world.poison:
            return f"{sorted(extra)[0]} is a dead letter and makes sense"
        if lost := self.world.poison - there:
            return f"{sorted(lost)[0]} makes no sense and is no dead letter"
        return ""

    def _names(self, oracle: Oracle) -> str:
        """What a service began and did not finish is finished: who holds a name is shown by it."""
        idle = [key for key in oracle.names if oracle.holder(key) is None]
        if idle:
            return f"user {oracle.names[idle[0]].user_id} holds a name and never has it"
        held = Counter(name.user_id for name in oracle.names.values())
        double = [user for user, names in held.items() if names > 1]
        return f"user {double[0]} holds two names" if double else ""

    def _epochs(self) -> str:
        for view, least in self.world.epochs.items():
            if self.world.views.epoch(view) < least:
                return f"view {view} went back and its epoch did not rise to {least}"
        return ""


def _parse(record: Any) -> tuple[Message, bytes, int]:
    whole = TOPICS[record.topic].message.FromString(record.value)
    message = getattr(whole, str(whole.WhichOneof("event")))
    sealed = sealed_of(message)
    text = b"" if sealed is None else sealing.open_text(data_key(sealed.owner_id), sealed)
    header = record.headers.get(ORDER_HEADER)
    return message, text, int.from_bytes(header, "big") if header else record.number


async def _rows(views: SimulatedViews, entity: Any) -> list[Any]:
    return [(key, row.values) async for key, row in views.scan_rows(entity.table) if not row.ended]


async def _requests(views: SimulatedViews, entity: Any, made: dict[tuple[int, bytes], int]) -> str:
    """What a retry of each request is answered."""
    claims = await views.claims(entity.table, list(made))
    return _differ("request", {asked: claim.key for asked, claim in claims.items()}, made)


def _counted(sets: dict[int, set[int]]) -> dict[int, int]:
    return {one: len(others) for one, others in sets.items() if others}


def _differ(what: str, there: dict[Any, Any], wanted: dict[Any, Any]) -> str:
    # Not a union of sets, whose order differs from process to process.
    for key in (*there, *wanted):
        if there.get(key) != wanted.get(key):
            return f"{what} {key!r}: {there.get(key)} and not {wanted.get(key)}"
    return ""
