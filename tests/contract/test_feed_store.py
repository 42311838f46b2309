"""One contract for every feed store: the one in memory and the one on Cassandra."""

from collections.abc import AsyncIterator

import pytest
from cassandra.protocol import BatchMessage, ProtocolHandler
from cassandra.query import BatchStatement, BatchType

from deploy.local.status import StackStatus
from millrace.errors import Bug, FailedPrecondition, StoreUnavailable
from millrace.settings import Settings
from millrace.stores.cassandra import CassandraFeedStore, open_feed_store
from millrace.stores.cassandra_rows import PackedBatch, PackedRowsHandler, RowPacker
from millrace.stores.feed_memory import MemoryFeedStore
from millrace.stores.feed_port import FeedRow, FeedStatics, FeedStore, MinutePosition
from streams.fanout import check_log

NAME = "delivery"
ID_MAX = 2**63 - 1


@pytest.fixture
def cassandra_settings(stack: StackStatus, namespace: str) -> Settings:
    return Settings(**{**stack.settings, "cassandra_keyspace": namespace})


@pytest.fixture
async def cassandra(cassandra_settings: Settings) -> AsyncIterator[CassandraFeedStore]:
    store = await open_feed_store(cassandra_settings)
    yield store
    await store.close()


@pytest.fixture(params=["memory", "cassandra"])
def store(request: pytest.FixtureRequest) -> FeedStore:
    if request.param == "memory":
        return MemoryFeedStore()
    feeds: CassandraFeedStore = request.getfixturevalue("cassandra")
    return feeds


class TestRows:
    async def test_newest_first_and_below_before(self, store: FeedStore) -> None:
        await store.write([FeedRow(7, media_id, 70 + media_id) for media_id in (3, 1, 5, 2, 4)])
        await store.write([FeedRow(8, 6, 76)])
        assert await store.page(7, limit=2) == [(5, 75), (4, 74)]
        assert await store.page(7, before=4, limit=10) == [(3, 73), (2, 72), (1, 71)]
        assert await store.page(7, before=1, limit=10) == []
        assert await store.page(9, limit=10) == []

    async def test_the_first_log_has_it(self, store: FeedStore) -> None:
        assert await store.log_id(ID_MAX) == ID_MAX
        assert await store.log_id(77) == ID_MAX
        await check_log(store, ID_MAX)
        with pytest.raises(FailedPrecondition):
            await check_log(store, 77)

    async def test_a_second_write_changes_nothing(self, store: FeedStore) -> None:
        rows = [FeedRow(user_id, 11, 5) for user_id in range(1, 4)]
        await store.write(rows)
        await store.write(list(reversed(rows)) + rows)
        assert sorted([row async for row in store.scan()]) == rows

    async def test_many_rows_are_all_there(self, store: FeedStore) -> None:
        rows = [FeedRow(1 + n % 500, ID_MAX - n, n) for n in range(12_000)]
        await store.write(rows)
        assert sorted([row async for row in store.scan()]) == sorted(rows)
        pairs = [(row.user_id, row.media_id) for row in rows]
        absent = [(user_id, 1) for user_id in range(1, 600)]
        assert await store.has_many([*pairs, *absent]) == set(pairs)

    async def test_nothing_to_write(self, store: FeedStore) -> None:
        await store.write([])
        assert [row async for row in store.scan()] == []
        assert await store.has_many([]) == set()

    async def test_statics_of_a_feed_that_nobody_filled(self, store: FeedStore) -> None:
        await store.write([FeedRow(1, 2, 3)])
        assert await store.statics(1) == FeedStatics()
        assert await store.statics(4) == FeedStatics()


class TestPositions:
    async def test_the_last_call_counts(self, store: FeedStore) -> None:
        for number in (5, 9, 7):
            await store.save_position(NAME, "chunks.small", 0, number, 1, {})
        await store.save_position(NAME, "chunks.large", 0, 3, 1, {})
        asked = [("chunks.small", 0), ("chunks.large", 0), ("chunks.small", 1)]
        assert await store.positions(NAME, asked) == {
            ("chunks.small", 0): 7,
            ("chunks.large", 0): 3,
        }
        assert await store.positions("other", asked) == {}

    async def test_a_minute_keeps_its_lowest_number_and_last_generations(
        self, store: FeedStore
    ) -> None:
        for minute, number, generation in ((10, 4, 1), (10, 9, 1), (11, 12, 1), (11, 6, 2)):
            await store.save_position(NAME, "t", 0, number, minute, {"node": generation})
        await store.save_position(NAME, "t", 0, 20, 12, {})
        assert await store.history(NAME, "t", 0) == [
            MinutePosition(12, 20, {}),
            MinutePosition(11, 6, {"node": 2}),
            MinutePosition(10, 4, {"node": 1}),
        ]
        assert await store.history(NAME, "t", 1) == []

    async def test_a_living_node_has_a_generation(self, store: FeedStore) -> None:
        nodes = await store.generations()
        assert len(nodes) == 1
        assert all(seen.generation > 0 for seen in nodes.values())


class TestCassandra:
    async def test_statics_are_read_as_written(
        self, cassandra: CassandraFeedStore, namespace: str
    ) -> None:
        await cassandra._session.execute(
            f"INSERT INTO {namespace}.feed_by_user"
            " (user_id, phase, upto, floor, cold_edges, hold, hold_from)"
            " VALUES (1, 2, 3, 4, {5: 6}, 7, 8)"
        )
        assert await cassandra.statics(1) == FeedStatics(2, 3, 4, {5: 6}, 7, 8)
        # A partition of statics alone answers a page with a row of nulls.
        assert await cassandra.page(1, limit=5) == []
        assert [row async for row in cassandra.scan()] == []

    async def test_the_schema_step_may_run_again(
        self, cassandra: CassandraFeedStore, cassandra_settings: Settings
    ) -> None:
        await cassandra.write([FeedRow(1, 2, 3)])
        again = await open_feed_store(cassandra_settings)
        assert await again.page(1, limit=5) == [(2, 3)]
        await again.close()

    async def test_packed_rows_are_what_the_driver_sends(
        self, cassandra: CassandraFeedStore, namespace: str
    ) -> None:
        """Frame by frame, so that a new driver or protocol cannot drift unseen."""
        insert = f"INSERT INTO {namespace}.feed_by_user (user_id, media_id, author_id)"
        prepared = await cassandra._session.prepare(f"{insert} VALUES (?, ?, ?)")
        rows = [FeedRow(1, ID_MAX, 3), FeedRow(2**40, 5, 0), FeedRow(7, 1, 2**33)]
        plain = BatchStatement(batch_type=BatchType.UNLOGGED)
        for row in rows:
            plain.add(prepared, row)
        packed = PackedBatch(RowPacker(prepared).pack(rows), 1, plain.keyspace)
        assert packed.routing_key == plain.routing_key
        assert list(packed._statements_and_parameters) == [
            (True, query_id, tuple(values))
            for _, query_id, values in plain._statements_and_parameters
        ]
        frames = {
            handler.encode_message(
                BatchMessage(batch.batch_type, batch._statements_and_parameters, 6, None, 1234),
                77, 4, None, False,
            )
            for handler in (PackedRowsHandler, ProtocolHandler)
            for batch in (packed, plain)
        }  # fmt: skip
        assert len(frames) == 1

    async def test_other_messages_go_the_drivers_way(self, cassandra: CassandraFeedStore) -> None:
        with pytest.raises(Bug):
            await cassandra._session.execute("SELECT nothing FROM nowhere")

    async def test_no_node_answers(self, cassandra_settings: Settings) -> None:
        closed = cassandra_settings.model_copy(update={"cassandra_port": 1})
        with pytest.raises(StoreUnavailable):
            await open_feed_store(closed)
