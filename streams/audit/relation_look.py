"""Counts and edges of users or media, beside the oracle's sets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from streams.audit.difference import Difference, at, words
from streams.audit.events import Ends
from streams.audit.keys import Keys
from streams.audit.look import TOO_MANY, each, first
from streams.audit.relations import RELATIONS, Relation
from streams.audit.served import COUNTS_AT_ONCE, Served
from streams.audit.slices import Slice

COUNTS, EDGES = "counts", "edges"
# In the order of reading: first the one that names the keys.
_TOPICS = {
    "users": ("users", "follows", "media", "likes", "saves"),
    "media": ("media", "likes", "comments"),
}


@dataclass(slots=True)
class Unequal:
    """What is served, by relation and key, where it is not what is expected."""

    counts: dict[tuple[Relation, int], int] = field(default_factory=dict)
    members: dict[tuple[Relation, int], list[int]] = field(default_factory=dict)


class RelationLook:
    """`name`: users or media."""

    def __init__(self, name: str, checks: Collection[str]) -> None:
        self.name = name
        self._checks = checks
        of_name = [one for one in RELATIONS if one.of == name]
        self.relations = [one for one in of_name if EDGES in checks or one.counted]
        read = {one.topic for one in self.relations}
        self.topics = tuple(one for one in _TOPICS[name] if one in read or one == name)
        self.views = self.topics

    def pairs(self) -> list[tuple[str, str]]:
        """(check, relation) of each row of the table."""
        counts = [(COUNTS, one.counted) for one in self.relations if one.counted]
        edges = [(EDGES, one.name) for one in self.relations]
        return [pair for pair in (*counts, *edges) if pair[0] in self._checks]

    def part(self, keys: Keys, members_max: int) -> Slice:
        return Slice(self.name, keys, members_max, self.topics)

    async def compare(self, part: Slice, served: Served) -> Unequal:
        unequal, keys = Unequal(), sorted(part.keys)
        if COUNTS in self._checks:
            for relation in self.relations:
                if relation.counted:
                    await self._compare_counts(part, served, relation, keys, unequal)
        if EDGES in self._checks:
            for relation in self.relations:
                await self._compare_members(part, served, relation, keys, unequal)
        return unequal

    async def _compare_counts(
        self, part: Slice, served: Served, relation: Relation, keys: Sequence[int], unequal: Unequal
    ) -> None:
        async def read(start: int) -> None:
            some = keys[start : start + COUNTS_AT_ONCE]
            for key, count in (await served.counts(relation, some)).items():
                if count != len(relation.expected(part.oracle, key)):
                    unequal.counts[relation, key] = count

        await each(range(0, len(keys), COUNTS_AT_ONCE), read)

    async def _compare_members(
        self, part: Slice, served: Served, relation: Relation, keys: Sequence[int], unequal: Unequal
    ) -> None:
        async def read(key: int) -> None:
            expected = relation.ordered(relation.expected(part.oracle, key))
            found = await first(served.members(relation, key), len(expected) + TOO_MANY)
            if found != expected:
                unequal.members[relation, key] = found

        await each(keys, read)

    def differences(self, part: Slice, unequal: Unequal, ends: Ends) -> list[Difference]:
        found = []
        for (relation, key), count in unequal.counts.items():
            expected = relation.expected(part.oracle, key)
            touched = part.touched.of(relation.name, key)
            least, most = len(expected - touched), len(expected | touched)
            if not least <= count <= most:
                told = str(most) if least == most else f"{least} to {most}"
                found.append(_difference(COUNTS, relation.counted, key, told, str(count), ends))
        for (relation, key), served in unequal.members.items():
            touched = part.touched.of(relation.name, key)
            wanted = relation.ordered(relation.expected(part.oracle, key) - touched)
            kept = [one for one in served if one not in touched]
            if wanted != kept:
                found.append(_difference(EDGES, relation.name, key, *words(wanted, kept), ends))
        return found


def _difference(
    check: str, relation: str, key: int, expected: str, served: str, ends: Ends
) -> Difference:
    return Difference(
        check, relation, key, expected, served, at(ends, sorted({p[0] for p in ends}))
    )
