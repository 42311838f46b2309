"""Feeds, page by page, beside their definition: own media and those of whom the user follows,
newest first, without what is deleted or of somebody deactivated.
"""

from collections.abc import Sequence

from streams.audit.difference import Difference, at, words
from streams.audit.events import Ends
from streams.audit.feeds import FEED_TOPICS, FeedSlice
from streams.audit.keys import Keys
from streams.audit.look import TOO_MANY, each, first
from streams.audit.served import Served

FEED, PAGES = "feed", "pages"

Items = list[tuple[int, int]]


class FeedLook:
    """By user."""

    name = "users"
    topics: Sequence[str] = FEED_TOPICS
    views: Sequence[str] = FEED_TOPICS

    def pairs(self) -> list[tuple[str, str]]:
        return [(FEED, PAGES)]

    def part(self, keys: Keys, members_max: int) -> FeedSlice:
        return FeedSlice(keys, members_max)

    async def compare(self, part: FeedSlice, served: Served) -> dict[int, Items]:
        unequal: dict[int, Items] = {}

        async def read(user_id: int) -> None:
            expected = part.expected(user_id)
            found = await first(served.feed(user_id), len(expected) + TOO_MANY)
            if found != expected:
                unequal[user_id] = found

        await each(sorted(part.keys), read)
        return unequal

    def differences(
        self, part: FeedSlice, unequal: dict[int, Items], ends: Ends
    ) -> list[Difference]:
        found = []
        for user_id, items in unequal.items():
            covers = part.touched.covers
            wanted = [one for one, by in part.expected(user_id) if not covers(user_id, one, by)]
            served = [one for one, by in items if not covers(user_id, one, by)]
            if wanted != served:
                expected, shown = words(wanted, served)
                position = at(ends, FEED_TOPICS)
                found.append(Difference(FEED, PAGES, user_id, expected, shown, position))
        return found
