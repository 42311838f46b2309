"""The player: calls begin by the plan and the clock alone, and latency counts from there."""

from dataclasses import dataclass
from typing import Any

import pytest

from millrace.client import Client, Session
from millrace.clock import ManualClock
from millrace.errors import Exhausted, MillraceError, OutcomeUnknown
from millrace.oracle import Oracle
from millrace.traffic.actors import Cast
from millrace.traffic.mix import Rpc
from millrace.traffic.plan import Action
from millrace.traffic.record import Acknowledged, Edge, Remark, Upload
from millrace.traffic.report import report_of
from millrace.traffic.run import Post, Traffic
from millrace.traffic.tally import DROPPED, OK, SKIPPED
from millrace.traffic.told import oracle_told


@dataclass(frozen=True)
class Listed:
    actions: tuple[Action, ...]
    seconds: float


@dataclass
class SlowServer:
    """In place of the client: each call takes so long by the clock, or is refused with `error`."""

    clock: ManualClock
    takes_s: float = 0.0
    error: MillraceError | None = None
    retries: int = 0

    async def call(self, _rpc: object, _request: object, _session: Session) -> Any:
        until_s = self.clock.monotonic_s() + self.takes_s
        while self.clock.monotonic_s() < until_s:
            await self.clock.sleep(0.01)
        if self.error is not None:
            raise self.error


def traffic(server: SlowServer, *actions: Action, outstanding_max: int = 100) -> Traffic:
    client: Client = server  # type: ignore[assignment]
    cast = Cast(client, [11, 12], run=".t")
    for person, user_id in ((0, 11), (1, 12)):
        cast.bring(person, Session(user_id))
    return Traffic(
        client,
        cast,
        Listed(actions, 10.0),
        [Post(b"", "")],
        outstanding_max=outstanding_max,
        clock=server.clock,
    )


def feed_reads(*at_s: float) -> list[Action]:
    return [Action(at, Rpc.GET_FEED, 0) for at in at_s]


async def test_latency_counts_from_the_intended_start_though_the_call_began_late() -> None:
    """The loop is held up for 3 s when the second call is due: it began late, and counts so."""
    clock = ManualClock()
    server = SlowServer(clock)
    run = traffic(server, *feed_reads(1.0, 2.0, 2.001))

    async def held_up(_rpc: object, _request: object, _session: Session) -> None:
        if clock.monotonic_s() < 2.5:
            clock.advance(3_000)

    server.call = held_up  # type: ignore[method-assign]
    record = await run.run()
    assert record.tally.outcomes == {OK: 3}
    late = record.tally.sum(window=2).latencies
    assert late.ms(50) == pytest.approx(3_000, rel=0.02)
    assert record.tally.late.ms(100) == pytest.approx(3_000, rel=0.02)


async def test_a_slow_answer_holds_no_other_call_up() -> None:
    clock = ManualClock()
    run = traffic(SlowServer(clock, takes_s=5.0), *feed_reads(1.0, 2.0, 3.0))
    record = await run.run()
    assert record.outstanding_max == 3
    assert record.tally.late.ms(100) < 200
    for window in (1, 2, 3):
        # The manual clock has gone on to the next call's start when a call is let in.
        assert 4_950 < record.tally.sum(window=window).latencies.ms(50) < 6_100


async def test_what_is_due_while_too_many_are_under_way_is_dropped_and_counted() -> None:
    clock = ManualClock()
    run = traffic(SlowServer(clock, takes_s=5.0), *feed_reads(1, 2, 3, 9), outstanding_max=2)
    record = await run.run()
    assert record.tally.outcomes == {OK: 3, DROPPED: 1}
    assert report_of(record).dropped == 1
    assert run.outstanding == 0


async def test_refusals_are_told_from_other_errors() -> None:
    server = SlowServer(ManualClock(), error=Exhausted("no", reason="OVERLOADED"))
    report = report_of(await traffic(server, *feed_reads(1.0)).run())
    assert (report.refused, report.failures) == (1, {"OVERLOADED": 1})


async def test_a_write_of_unknown_outcome_leaves_its_edge_in_doubt() -> None:
    server = SlowServer(ManualClock(), error=OutcomeUnknown("lost"))
    run = traffic(server, Action(1.0, Rpc.FOLLOW, 0, 1), Action(2.0, Rpc.UPDATE_PROFILE, 1))
    doubt = (await run.run()).acknowledged.doubt
    assert (doubt.edges, doubt.users) == ({("follows", 11, 12)}, {12})


async def test_what_another_process_uploaded_can_be_liked_once_it_is_told() -> None:
    server = SlowServer(ManualClock())
    early, late = Action(1.0, Rpc.LIKE, 0, 7), Action(2.0, Rpc.LIKE, 0, 8)
    run = traffic(server, early, late)
    run.learn([(8, 99)])
    record = await run.run()
    assert record.tally.outcomes == {SKIPPED: 1, OK: 1}
    assert record.acknowledged.standing == {("likes", 11, 99): True}


def test_the_oracle_of_the_calls_holds_what_they_were_told() -> None:
    request_id = "00000000-0000-4000-8000-000000000001"
    acknowledged = Acknowledged(
        uploads=[Upload(1, 5, request_id, b"sum", "sea", 9)],
        remarks=[Remark(2, 6, 5, request_id, "nice")],
        registered={1: "ana.almeida0.abcdef", 2: "bento.oliveira1.abcdef"},
        profiles=[(1, "at sea")],
    )
    acknowledged.wrote(Edge("follows", 2, 1, live=True))
    acknowledged.wrote(Edge("likes", 2, 5, live=True))
    acknowledged.wrote(Edge("likes", 1, 5, live=True))
    acknowledged.wrote(Edge("likes", 1, 5, live=False))
    oracle: Oracle = oracle_told(acknowledged)
    assert oracle.handle(1) == "ana.almeida0.abcdef"
    assert (oracle.users[1].display_name, oracle.users[1].bio) == ("Ana Almeida", "at sea")
    assert oracle.feed(2) == [5]
    assert oracle.likers[5] == {2}
    assert (oracle.count_comments(5), oracle.media[5].caption) == (1, "sea")
