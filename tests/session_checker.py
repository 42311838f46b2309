"""Judges a history of sessions by what docs/guarantees.md promises. Pure.

A read shows, of each key, what some write left that no later write, which the read must know of,
has changed. It must know of: its session's own acknowledged writes, and what the answer promised
that everybody sees; after a drain, of all that was acknowledged. So wrong is:

LOST      after a drain: something acknowledged is not there (or what was ended still is)
DOUBLED   shown twice, or counted otherwise than shown
BEHIND    a read that is not `stale` shows less than its session's position covers
CHANGED   one request answered two ids, or two requests one
TORN      after a drain one place shows a write whose outcome was unknown, another does not
INVENTED  nobody wrote this, or it was refused
REFUSED   an answer that nothing in such a history justifies, such as NOT_FOUND

A write of which an attempt has timed out may be done up to `late_s` after its end (a creation may
not: it counts once). Answers that say `stale` are counted and not judged.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tests.session_history import GONE, NOT_TOLD, Key, Outcome, Read, SessionHistory, Write

_ALWAYS_S = float("-inf")
_SHOWN_MAX = 5


class Wrong(StrEnum):
    LOST = "lost"
    DOUBLED = "doubled"
    BEHIND = "behind"
    CHANGED = "changed"
    TORN = "torn"
    INVENTED = "invented"
    REFUSED = "refused"


@dataclass(slots=True)
class Verdict:
    """`compared`: values that were looked at. `wrong`: all that is, in words."""

    acknowledged: int = 0
    unknown: int = 0
    reads: int = 0
    stale: int = 0
    compared: int = 0
    wrong: dict[Wrong, list[str]] = field(default_factory=lambda: {one: [] for one in Wrong})

    @property
    def passed(self) -> bool:
        return not any(self.wrong.values())

    def add(self, other: "Verdict") -> None:
        self.acknowledged += other.acknowledged
        self.unknown += other.unknown
        self.reads += other.reads
        self.stale += other.stale
        self.compared += other.compared
        for one, texts in other.wrong.items():
            self.wrong[one] += texts

    def __str__(self) -> str:
        counts = ", ".join(f"{one} {len(texts)}" for one, texts in self.wrong.items())
        return (
            f"{self.acknowledged} writes acknowledged, {self.unknown} unknown, {self.reads} reads"
            f" ({self.stale} stale, {self.compared} values): {counts}"
        )

    def told(self) -> str:
        """The first of each kind."""
        return "\n".join(
            f"{one}: {text}" for one, texts in self.wrong.items() for text in texts[:_SHOWN_MAX]
        )


class Checker:
    """Judges reads against all writes of a history, those of its end included."""

    def __init__(self, writes: Sequence[Write], *, late_s: float) -> None:
        self._late_s = late_s
        self._keys: dict[tuple[str, int], set[Hashable]] = defaultdict(set)
        self._writes: dict[Key, list[Write]] = defaultdict(list)
        self._unsettled_s: dict[Key, float] = {}
        for write in _creations_once(writes):
            kind, owner, member = write.key
            self._keys[kind, owner].add(member)
            if write.outcome is not Outcome.REFUSED:
                self._writes[write.key].append(write)
            if write.outcome is Outcome.UNKNOWN:
                until_s = max(self._unsettled_s.get(write.key, 0.0), write.ended_s + late_s)
                self._unsettled_s[write.key] = until_s

    def judge(self, reads: Iterable[Read]) -> Verdict:
        verdict = Verdict()
        drained: dict[tuple[int, Key], Hashable] = {}
        for read in reads:
            verdict.reads += 1
            if read.stale:
                verdict.stale += 1
                continue
            self._look_for_doubles(read, verdict)
            shown = dict(reversed(read.rows))
            members = self._keys[read.kind, read.owner] | set(shown)
            for member in members if read.asked is None else read.asked:
                key = (read.kind, read.owner, member)
                value = shown.get(member, GONE)
                verdict.compared += 1
                self._look_at(read, key, value, verdict)
                if read.drained and self._unsettled_s.get(key, _ALWAYS_S) < read.began_s:
                    first = drained.setdefault((read.drained, key), value)
                    if first != value:
                        verdict.wrong[Wrong.TORN].append(f"{key}: {first!r} and {value!r}")
        return verdict

    def _look_for_doubles(self, read: Read, verdict: Verdict) -> None:
        doubled = verdict.wrong[Wrong.DOUBLED]
        times = Counter(member for member, _ in read.rows)
        doubled += [
            f"{read.kind} of {read.owner}: {member!r} {count} times"
            for member, count in times.items()
            if count > 1
        ]
        if read.drained and read.count is not None and read.count != len(times):
            doubled.append(f"{read.kind} of {read.owner}: {len(times)} and counts {read.count}")

    def _look_at(self, read: Read, key: Key, value: Hashable, verdict: Verdict) -> None:
        nothing = Write(read.session, key, GONE, _ALWAYS_S, _ALWAYS_S)
        before = [one for one in self._writes[key] if one.began_s < read.ended_s]
        left = [one for one in (nothing, *before) if _shows(one, value)]
        if not left:
            verdict.wrong[Wrong.INVENTED].append(f"{key}: {value!r} at {read.began_s:.3f}")
            return
        known = [one for one in reversed(before) if self._must_know(read, one)]
        # The newest first: what is shown is rarely old.
        if any(not any(self._undoes(later, one) for later in known) for one in reversed(left)):
            return
        newest = max(known, key=lambda one: one.ended_s)
        kind = Wrong.LOST if read.drained else Wrong.BEHIND
        verdict.wrong[kind].append(
            f"{key}: session {read.session} is shown {value!r} at {read.began_s:.3f}, and"
            f" {newest.value!r} was answered to session {newest.session} at {newest.ended_s:.3f}"
        )

    @staticmethod
    def _must_know(read: Read, write: Write) -> bool:
        if write.outcome is not Outcome.DONE or write.ended_s > read.began_s:
            return False
        return write.session == read.session or write.for_all or read.drained > 0

    def _undoes(self, later: Write, earlier: Write) -> bool:
        """Whether it is certain that `later` came after all that `earlier` did."""
        settled_s = earlier.ended_s
        if not earlier.request and (earlier.tried_again or earlier.outcome is Outcome.UNKNOWN):
            settled_s += self._late_s
        return later is not earlier and settled_s <= later.began_s


def judge(history: SessionHistory, *, late_s: float) -> Verdict:
    """A whole history."""
    verdict = Checker(history.writes, late_s=late_s).judge(history.reads)
    verdict.add(answers(history.writes))
    verdict.wrong[Wrong.REFUSED] += history.refused
    return verdict


def answers(writes: Sequence[Write]) -> Verdict:
    """What the writes' answers say by themselves."""
    verdict = Verdict()
    ids: dict[tuple[str, str], Hashable] = {}
    requests: dict[tuple[str, Hashable], str] = {}
    for write in writes:
        verdict.acknowledged += write.outcome is Outcome.DONE
        verdict.unknown += write.outcome is Outcome.UNKNOWN
        if write.outcome is Outcome.REFUSED and write.reason:
            verdict.wrong[Wrong.REFUSED].append(f"{write.key}: {write.reason}")
        if not write.request or write.outcome is not Outcome.DONE:
            continue
        kind = write.key[0]
        first = ids.setdefault((kind, write.request), write.value)
        asked = requests.setdefault((kind, write.value), write.request)
        if first != write.value or asked != write.request:
            verdict.wrong[Wrong.CHANGED].append(f"{write.key}: {first!r}, then {write.value!r}")
    return verdict


def _creations_once(writes: Iterable[Write]) -> Iterable[Write]:
    """Of each creation one write, from its first attempt to its first answer."""
    created: dict[str, Write] = {}
    for write in writes:
        if not write.request:
            yield write
            continue
        known = created.setdefault(write.request, write)
        began_s = min(known.began_s, write.began_s)
        first = known if known.outcome is Outcome.DONE else write
        if known is not write and write.outcome is Outcome.REFUSED:
            first = known
        created[write.request] = replace(first, began_s=began_s)
    yield from created.values()


def _shows(write: Write, value: Hashable) -> bool:
    return write.value == value or (write.value == NOT_TOLD and value != GONE)
