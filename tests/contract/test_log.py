"""One contract for every log: the one in memory and the one on Kafka."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from deploy.local.status import StackStatus
from millrace.clock import ManualClock, SystemClock
from millrace.errors import Bug, FailedPrecondition, InvalidRequest, PositionBehind
from millrace.ids import GENERATION_SHIFT
from millrace.log.control import Control, raise_epoch
from millrace.log.create import create_log, start_log
from millrace.log.dead import DeadLetters
from millrace.log.kafka import KafkaLog
from millrace.log.memory import MemoryLog
from millrace.log.partitioner import key_of, partition_of_owner
from millrace.log.port import Log, LogReader, NewRecord, Record, TopicPartition
from millrace.log.position_token import FutureCheck, PositionToken
from millrace.log.user_ids import UserIds
from millrace.settings import Settings
from social.log.v1.dead_pb2 import DeadLetter

PARTITIONS = 3
BLOCK = 4
SOON_S = 10.0
# A wait that nobody waits out.
LONG_S = 120.0


@pytest.fixture(scope="module")
async def kafka(stack: StackStatus) -> AsyncIterator[KafkaLog]:
    settings = Settings(
        **{
            **stack.settings,
            "topic_prefix": f"t{secrets.token_hex(5)}.",
            "log_partitions": PARTITIONS,
            "user_id_block": BLOCK,
        }
    )
    await create_log(settings)
    log = KafkaLog(settings)
    yield log
    await log.close()


@pytest.fixture(scope="module")
async def memory() -> MemoryLog:
    log = MemoryLog(PARTITIONS)
    await start_log(log, SystemClock(), BLOCK)
    return log


@pytest.fixture(params=["memory", "kafka"])
def log(request: pytest.FixtureRequest) -> Log:
    """Shared by the tests of this file: each looks at what it added itself."""
    log: Log = request.getfixturevalue(request.param)
    return log


async def read_after(
    log: Log, positions: Mapping[TopicPartition, int], count: int, *, records_max: int = 1_000
) -> list[Record]:
    """The next `count` records, or fewer when they do not come soon."""
    reader = log.reader(positions)
    deadline = time.monotonic() + SOON_S
    records: list[Record] = []
    while len(records) < count and time.monotonic() < deadline:
        batch = await reader.batch(records_max, 0.2)
        assert len(batch) <= records_max
        records += batch
    await reader.close()
    return records


async def positions_of(log: Log, topic: str) -> dict[TopicPartition, int]:
    return {(topic, number): end for number, end in enumerate(await log.ends(topic))}


class TestAppend:
    async def test_numbers_follow_each_other(self, log: Log) -> None:
        before = await log.ends("likes")
        home = partition_of_owner(7, PARTITIONS)
        for step in (1, 2, 3):
            appended = await log.append("likes", key_of(7), b"x")
            assert appended == ("likes", home, before[home] + step)
        after = list(before)
        after[home] += 3
        assert await log.ends("likes") == after

    async def test_a_partition_may_be_given(self, log: Log) -> None:
        other = (partition_of_owner(7, PARTITIONS) + 1) % PARTITIONS
        assert (await log.append("vault", key_of(7), b"x", partition=other)).partition == other
        with pytest.raises(Bug):
            await log.append("vault", key_of(7), b"x", partition=PARTITIONS)

    async def test_single_topics_have_one_partition(self, log: Log) -> None:
        assert log.partitions_of("progress") == 1
        assert (await log.append("progress", b"view", b"x")).partition == 0
        assert len(await log.ends("progress")) == 1
        assert len(await log.ends("follows")) == log.partitions == PARTITIONS

    async def test_appends_side_by_side_are_all_there(self, log: Log) -> None:
        positions = await positions_of(log, "media")
        values = [str(n).encode() for n in range(300)]
        done = await asyncio.gather(*(log.append("media", v, v) for v in values))
        records = await read_after(log, positions, len(values), records_max=50)
        assert {(r.partition, r.number, r.value) for r in records} == {
            (a.partition, a.number, v) for a, v in zip(done, values, strict=True)
        }

    async def test_many_keep_their_order_and_tell_the_last_number(self, log: Log) -> None:
        positions = await positions_of(log, "follows")
        news = [NewRecord(key_of(n % 11), b"%d" % n) for n in range(20_000)]
        news.append(NewRecord(key_of(0), None, partition=1))
        last = await log.append_many("follows", news)
        ends = await log.ends("follows")
        assert last == {number: ends[number] for number in last}
        records = await read_after(log, positions, len(news), records_max=3_000)
        for owner in range(11):
            home = partition_of_owner(owner, PARTITIONS)
            mine = [r.value for r in records if r.key == key_of(owner) and r.value is not None]
            assert mine == [b"%d" % n for n in range(owner, 20_000, 11)], home
        assert await log.append_many("follows", []) == {}

    async def test_whatever_a_record_holds_comes_back(self, log: Log) -> None:
        positions = await positions_of(log, "vault")
        large = bytes(range(256)) * 2_000
        headers = {"trace": b"00-ab", "order": (5).to_bytes(8, "big")}
        home = (await log.append("vault", b"k", large, headers=headers)).partition
        await log.append("vault", b"k", b"")
        await log.append("vault", b"k", None)
        await log.append("vault", b"", b"no key", partition=home)
        records = await read_after(log, positions, 4)
        assert [(r.key, r.value) for r in records] == [
            (b"k", large),
            (b"k", b""),
            (b"k", None),
            (b"", b"no key"),
        ]
        assert records[0].headers == headers
        assert not records[1].headers
        assert abs(records[0].appended_ms - SystemClock().now_ms()) < 60_000

    async def test_too_large_an_event_is_refused(self, log: Log) -> None:
        before = await log.ends("likes")
        with pytest.raises(InvalidRequest) as refused:
            await log.append("likes", b"k", bytes(512 * 1024 + 1))
        assert refused.value.reason == "EVENT_TOO_LARGE"
        assert await log.ends("likes") == before
        await log.append("likes", b"k", bytes(512 * 1024))


class TestReader:
    async def test_goes_on_after_its_position(self, log: Log) -> None:
        first = await log.append("users", b"k", b"1")
        await log.append("users", b"k", b"2")
        place = ("users", first.partition)
        assert [r.value for r in await read_after(log, {place: first.number}, 1)] == [b"2"]
        assert [r.value for r in await read_after(log, {place: first.number - 1}, 2)] == [
            b"1",
            b"2",
        ]

    async def test_seeks_back_and_forth(self, log: Log) -> None:
        done = [await log.append("users", b"seek", b"%d" % n) for n in range(5)]
        topic, partition, start = done[0]
        reader = log.reader({(topic, partition): start - 1})
        assert [r.value for r in await reader.batch(2, SOON_S)] == [b"0", b"1"]
        reader.seek(topic, partition, start + 2)
        assert [r.value for r in await reader.batch(9, SOON_S)] == [b"3", b"4"]
        reader.seek(topic, partition, start - 1)
        assert [r.value for r in await reader.batch(1, SOON_S)] == [b"0"]
        assert reader.lag() == {(topic, partition): 4}
        with pytest.raises(Bug):
            reader.seek(topic, partition + 1, 0)
        await reader.close()

    async def test_is_empty_after_the_wait_and_wakes_for_a_record(self, log: Log) -> None:
        reader = log.reader(await positions_of(log, "names"))
        assert await reader.batch(10, 0) == []
        assert await reader.batch(10, 0.1) == []
        waiting = asyncio.create_task(reader.batch(10, LONG_S))
        await asyncio.sleep(0)
        await log.append("names", b"k", b"late")
        async with asyncio.timeout(LONG_S / 2):
            assert [r.value for r in await waiting] == [b"late"]
        await reader.close()

    async def test_a_position_beyond_the_end_stops_it(self, log: Log) -> None:
        appended = await log.append("plans", b"k", b"x")
        place = ("plans", appended.partition)
        beyond = log.reader({place: appended.number + 1})
        with pytest.raises(PositionBehind):
            await drain(beyond)
        with pytest.raises(PositionBehind):
            await drain(beyond)
        await beyond.close()
        other_generation = log.reader({place: (1 << GENERATION_SHIFT) + appended.number})
        with pytest.raises(PositionBehind):
            await drain(other_generation)
        await other_generation.close()
        at_the_end = log.reader({place: appended.number})
        assert await at_the_end.batch(10, 0.5) == []
        await at_the_end.close()


async def drain(reader: LogReader) -> None:
    """Reads until something is raised, or soon is over."""
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline:
        await reader.batch(10, 0.2)


class TestGroupReader:
    async def test_starts_where_it_is_told(self, log: Log) -> None:
        places = [("chunks.small", n) for n in range(PARTITIONS)]
        for _, number in places:
            for step in range(3):
                await log.append("chunks.small", b"k", b"%d" % step, partition=number)
        stored = dict.fromkeys(places, 1)
        asked: list[TopicPartition] = []

        async def positions(of: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
            asked.extend(of)
            return stored

        reader = log.group_reader(f"g{secrets.token_hex(4)}", ["chunks.small"], positions)
        records = await self.take(reader, 2 * PARTITIONS)
        assert sorted(r.value or b"" for r in records) == [b"1"] * PARTITIONS + [b"2"] * PARTITIONS
        assert list(reader.assigned) == asked == places
        assert set(reader.lag().values()) == {0}

        stored[places[0]] = 2
        reader.reread(*places[0])
        assert [r.value for r in await self.take(reader, 1)] == [b"2"]
        assert asked[len(places) :] == [places[0]]
        reader.seek(*places[1], 0)
        assert len(await self.take(reader, 3)) == 3
        await reader.close()

    async def take(self, reader: LogReader, count: int) -> list[Record]:
        deadline = time.monotonic() + SOON_S
        records: list[Record] = []
        while len(records) < count and time.monotonic() < deadline:
            records += await reader.batch(100, 0.2)
        return records

    async def test_a_failing_store_is_asked_again(self, log: Log) -> None:
        answers = [False, True]

        async def positions(of: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
            if not answers.pop(0):
                raise ConnectionError
            return dict.fromkeys(of, 0)

        await log.append("chunks.large", b"k", b"x")
        reader = log.group_reader(f"g{secrets.token_hex(4)}", ["chunks.large"], positions)
        with pytest.raises(ConnectionError):
            await drain(reader)
        assert await self.take(reader, 1)
        await reader.close()


class TestControl:
    async def test_the_first_start_counts(self, log: Log) -> None:
        started = await asyncio.gather(*(start_log(log, SystemClock(), n) for n in (1, 2, 3)))
        assert len({identity.log_id for identity in started}) == 1
        assert started[0].user_id_block == BLOCK
        assert 0 <= started[0].log_id < 1 << 63

    async def test_user_ids_are_never_handed_out_twice(self, log: Log) -> None:
        controls = [Control(log) for _ in range(3)]
        processes = [UserIds(log, control) for control in controls]
        wanted = [ids.next_id() for ids in processes for _ in range(2 * BLOCK + 1)]
        given = await asyncio.gather(*wanted)
        assert len(set(given)) == len(given)
        assert min(given) >= 1
        for control in controls:
            await control.close()

    async def test_epochs_rise(self, log: Log) -> None:
        one, other = Control(log), Control(log)
        view = secrets.token_hex(4)
        await one.catch_up()
        assert one.epoch(view) == 1
        assert await raise_epoch(one, log, view) == 2
        assert await raise_epoch(other, log, view) == 3
        await one.catch_up()
        assert one.epoch(view) == 3
        await one.close()
        await other.close()


async def test_dead_letters_lie_beside_their_topic(log: Log) -> None:
    positions = await positions_of(log, "likes.dead")
    dead = DeadLetters(log, "likes", ManualClock(5), ratio_max=0.5, window_events=4)
    record = Record("likes", 2, 9, b"key", b"\xff")
    await dead.put(record, "not a LikesEvent")
    await dead.put(record._replace(value=None), "nothing")
    letters = await read_after(log, positions, 2)
    assert [(r.partition, r.key) for r in letters] == [(2, b"key")] * 2
    first, second = (DeadLetter.FromString(r.value or b"") for r in letters)
    assert first == DeadLetter(
        view="likes",
        reason="not a LikesEvent",
        topic="likes",
        partition=2,
        number=9,
        key=b"key",
        value=b"\xff",
        at_ms=5,
    )
    assert not second.HasField("value")
    with pytest.raises(FailedPrecondition):
        await dead.put(record, "one too many")


async def test_a_token_from_the_future_is_refused(log: Log) -> None:
    appended = await log.append("likes", key_of(7), b"x")
    token = PositionToken(1).after(appended, appended.partition)
    check = FutureCheck(log)
    await check.admit(token)
    later = appended._replace(number=appended.number + 1)
    with pytest.raises(FailedPrecondition) as refused:
        await check.admit(token.after(later, appended.partition))
    assert refused.value.reason == "POSITION_FROM_THE_FUTURE"
    await log.append("likes", key_of(7), b"x")
    await check.admit(token.after(later, appended.partition))
    for elsewhere in (("comments", 0, 1), ("likes", PARTITIONS, 1)):
        with pytest.raises(FailedPrecondition):
            await check.admit(PositionToken(1, foreign=(elsewhere,)))
