"""The checker of session guarantees: good histories pass, each broken one is found by its name."""

import pytest

from tests.session_checker import Wrong, judge
from tests.session_history import (
    GONE,
    NOT_TOLD,
    Key,
    Outcome,
    Read,
    Rows,
    SessionHistory,
    Write,
)

LATE_S = 5.0
LIKE: Key = ("like", 1, 77)
REMARK: Key = ("comment", 77, "hello")


def like(began_s: float, ended_s: float, *, live: bool = True, session: int = 0) -> Write:
    return Write(session, LIKE, True if live else GONE, began_s, ended_s)


def lost_answer(began_s: float, ended_s: float, *, live: bool = True) -> Write:
    return Write(0, LIKE, True if live else GONE, began_s, ended_s, Outcome.UNKNOWN)


def shown(at_s: float, *, live: bool = True, session: int = 0, drained: int = 0) -> Read:
    rows: Rows = ((77, True),) if live else ()
    asked = frozenset([77])
    return Read(session, "like", 1, rows, at_s, at_s + 0.1, asked, drained=drained)


def remark(began_s: float, ended_s: float, comment_id: int = 500, request: str = "r") -> Write:
    return Write(0, REMARK, comment_id, began_s, ended_s, request=request, for_all=True)


def no_answer(began_s: float, ended_s: float) -> Write:
    return Write(0, REMARK, NOT_TOLD, began_s, ended_s, Outcome.UNKNOWN, request="r", for_all=True)


def uncomment(began_s: float, ended_s: float) -> Write:
    return Write(0, REMARK, GONE, began_s, ended_s, for_all=True)


def listed(at_s: float, *ids: int, session: int = 0, drained: int = 0) -> Read:
    rows = tuple(("hello", one) for one in ids)
    return Read(session, "comment", 77, rows, at_s, at_s + 0.1, drained=drained)


def counted(at_s: float, count: int, *ids: int) -> Read:
    rows = tuple((f"by {one}", one) for one in ids)
    asked: frozenset[str] = frozenset()
    return Read(0, "likers", 77, rows, at_s, at_s + 0.1, asked, count=count, drained=1)


GOOD = {
    "one's own write is shown": [like(1, 2), shown(3)],
    "before any write nothing is": [shown(0, live=False), like(1, 2)],
    "a read beside the write may show either": [like(1, 3), shown(2), shown(2, live=False)],
    "the last of one's writes counts": [like(1, 2), like(3, 4, live=False), shown(5, live=False)],
    "writes at once may be in any order": [
        like(1, 3), like(2, 4, live=False, session=1), shown(5), shown(5, live=False),
    ],
    "others' likes may come later": [like(1, 2, session=1), shown(3, live=False)],
    "what nobody knows may be there": [lost_answer(1, 2), shown(3), shown(30)],
    "or not": [lost_answer(1, 2), shown(3, live=False), shown(9, live=False, drained=1)],
    "it may come for as long as the server tries": [
        lost_answer(1, 2), like(3, 4, live=False), shown(5, live=True),
    ],
    "a comment is there for all, once": [remark(1, 2), listed(3, 500), listed(3, 500, session=1)],
    "an answer after a retry": [no_answer(1, 2), listed(3, 500), remark(4, 5), listed(6, 500)],
    "an answered request again": [remark(1, 2), remark(3, 4), listed(5, 500, drained=1)],
    "a comment that was taken back": [remark(1, 2), uncomment(3, 4), listed(5, session=1)],
    "a creation that was refused is not there": [
        Write(0, REMARK, NOT_TOLD, 1, 2, Outcome.REFUSED, request="r"), listed(3, drained=1),
    ],
    "a stale answer shows what it shows": [
        like(1, 2), Read(0, "like", 1, (), 3, 4, frozenset([77]), stale=True),
    ],
    "counts are what is listed": [counted(1, 2, 8, 9)],
}  # fmt: skip

BAD = {
    "an acknowledged write is lost": (Wrong.LOST, [like(1, 2), shown(9, live=False, drained=1)]),
    "another session's, too": (
        Wrong.LOST, [like(1, 2, session=1), shown(9, live=False, drained=1)],
    ),
    "what was ended came back": (
        Wrong.LOST, [like(1, 2), like(3, 4, live=False), shown(9, drained=1)],
    ),
    "an acknowledged comment is lost": (Wrong.LOST, [remark(1, 2), listed(9, drained=1)]),
    "a comment is shown twice": (Wrong.DOUBLED, [remark(1, 2), listed(3, 500, 500)]),
    "a comment is there twice": (Wrong.DOUBLED, [remark(1, 2), listed(3, 500, 501)]),
    "a count is not what is listed": (Wrong.DOUBLED, [counted(1, 3, 8, 9)]),
    "a read is behind its session": (Wrong.BEHIND, [like(1, 2), shown(3, live=False)]),
    "it was shown, and then not": (Wrong.BEHIND, [like(1, 2), shown(3), shown(4, live=False)]),
    "a comment that all should see": (Wrong.BEHIND, [remark(1, 2), listed(3, session=1)]),
    "a deleted comment that nobody should": (
        Wrong.BEHIND, [remark(1, 2), uncomment(3, 4), listed(5, 500, session=1)],
    ),
    "a late attempt brings a deleted comment back": (
        Wrong.BEHIND, [no_answer(1, 2), remark(3, 4), uncomment(4.5, 5), listed(5.5, 500)],
    ),
    "an attempt came later than any server tries": (
        Wrong.BEHIND, [lost_answer(1, 2), like(9, 10, live=False), shown(11)],
    ),
    "a retry answers another id": (Wrong.CHANGED, [remark(1, 2), remark(3, 4, 501)]),
    "two requests answer one id": (Wrong.CHANGED, [remark(1, 2), remark(3, 4, request="s")]),
    "an unknown comment is half there": (
        Wrong.TORN, [no_answer(1, 2), listed(20, 500, drained=1), listed(21, drained=1)],
    ),
    "an id that nobody was told": (Wrong.INVENTED, [remark(1, 2), listed(3, 501)]),
    "a comment that nobody wrote": (Wrong.INVENTED, [listed(3, 500)]),
    "a comment before it was written": (Wrong.INVENTED, [listed(1, 500), remark(3, 4)]),
    "a refused comment is there": (
        Wrong.INVENTED,
        [Write(0, REMARK, NOT_TOLD, 1, 2, Outcome.REFUSED, request="r"), listed(3, 500)],
    ),
    "a refusal without a cause": (
        Wrong.REFUSED, [Write(0, LIKE, True, 1, 2, Outcome.REFUSED, reason="NOT_FOUND")],
    ),
}  # fmt: skip


def history(calls: list[Write | Read]) -> SessionHistory:
    return SessionHistory(
        [one for one in calls if isinstance(one, Write)],
        [one for one in calls if isinstance(one, Read)],
    )


@pytest.mark.parametrize("calls", GOOD.values(), ids=GOOD)
def test_a_good_history_passes(calls: list[Write | Read]) -> None:
    verdict = judge(history(calls), late_s=LATE_S)
    assert verdict.passed, verdict.told()


@pytest.mark.parametrize(("wrong", "calls"), BAD.values(), ids=BAD)
def test_a_broken_history_is_found(wrong: Wrong, calls: list[Write | Read]) -> None:
    verdict = judge(history(calls), late_s=LATE_S)
    assert {one for one, texts in verdict.wrong.items() if texts} == {wrong}, verdict.told()


def test_what_was_looked_at_is_counted() -> None:
    stale = Read(0, "like", 1, (), 3, 4, frozenset([77]), stale=True)
    calls: list[Write | Read] = [like(1, 2), lost_answer(3, 4), shown(5), stale]
    verdict = judge(history(calls), late_s=LATE_S)
    seen = (verdict.acknowledged, verdict.unknown, verdict.reads, verdict.stale, verdict.compared)
    assert seen == (1, 1, 2, 1, 1)
    assert "1 writes acknowledged, 1 unknown, 2 reads (1 stale, 1 values): lost 0" in str(verdict)
