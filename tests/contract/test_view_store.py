"""One contract for every view store, method by method: in memory and on PostgreSQL."""

import asyncio
from contextlib import aclosing

import pytest

from millrace.errors import Bug, FailedPrecondition, InvalidRequest, PoisonEvent, PositionMoved
from millrace.stores.changes import Batch, Change, EdgeChange, Move, RowPut, RowUpdate
from millrace.stores.fold import ClaimRow, Row
from millrace.stores.port import EdgeRow, PositionRow, StoredPosition, ViewStore
from millrace.stores.schema import EdgeTable
from tests.contract.view_stores import apply, assert_holds, go_back
from tests.sample_view import (
    BONDS,
    CELLS,
    ITEMS,
    LABELS,
    LOG_ID,
    PARTITIONS,
    SAMPLE,
    SHELF,
    TOPIC,
    Model,
    bond,
    cell,
    cell_end,
    cell_key,
    item,
    item_end,
    label,
    label_end,
    title,
)

ID_MAX = 2**63 - 1


class TestPositions:
    async def test_a_new_view_starts_at_zero(self, store: ViewStore) -> None:
        assert await store.positions("sample") == {
            (TOPIC, partition): StoredPosition(1, LOG_ID, 0) for partition in range(PARTITIONS)
        }
        assert await store.positions("unknown") == {}
        assert await store.all_positions() == [
            PositionRow("sample", 0, 4096, TOPIC, partition, 1, LOG_ID, 0)
            for partition in range(PARTITIONS)
        ]

    async def test_opening_again_keeps_and_adds(self, store: ViewStore) -> None:
        await apply(store, bond(1, 2, 7), partition=1)
        assert await store.raise_epoch("sample") == 2
        await store.open_view(SAMPLE, {TOPIC: PARTITIONS + 1}, LOG_ID)
        positions = await store.positions("sample")
        assert positions[TOPIC, 1] == (2, LOG_ID, 7)
        assert positions[TOPIC, PARTITIONS] == (2, LOG_ID, 0)

    async def test_positions_and_rows_are_of_one_moment(self, store: ViewStore) -> None:
        await apply(store, bond(1, 2, 7), partition=1)

        async def read(then: ViewStore) -> list[list[EdgeRow]]:
            before = await then.page(BONDS, 1, limit=9)
            if then is not store:  # The twin lets nobody in between.
                await apply(store, bond(1, 3, 8), partition=1)
            return [before, await then.page(BONDS, 1, limit=9)]

        stored, (before, after) = await store.at_one_moment("sample", read)
        assert stored[TOPIC, 1].position == 7
        assert before == after == [EdgeRow(1, 2, 7, 1_007)]

    async def test_another_log_is_refused(self, store: ViewStore) -> None:
        with pytest.raises(FailedPrecondition):
            await store.open_view(SAMPLE, {TOPIC: PARTITIONS + 1}, LOG_ID + 1)
        assert len(await store.positions("sample")) == PARTITIONS

    async def test_epochs_only_rise(self, store: ViewStore) -> None:
        assert await store.raise_epoch("sample") == 2
        assert await store.raise_epoch("sample", at_least=9) == 9
        assert await store.raise_epoch("sample", at_least=4) == 10
        assert {row.epoch for row in await store.all_positions()} == {10}
        with pytest.raises(FailedPrecondition):
            await store.raise_epoch("unknown")

    @pytest.mark.parametrize("move", [Move(TOPIC, 0, 4, 9), Move(TOPIC, 99, 0, 9)])
    async def test_a_batch_starts_where_the_view_stands(self, store: ViewStore, move: Move) -> None:
        good = Move(TOPIC, 1, 0, 9)
        with pytest.raises(PositionMoved):
            await store.apply(SAMPLE, Batch("sample", (good, move), [bond(1, 2, 9)]))
        assert {row.position for row in await store.all_positions()} == {0}
        await assert_holds(store, Model())

    async def test_one_of_two_workers_applies_a_batch(self, store: ViewStore) -> None:
        model, changes = Model(), [bond(giver, 1, giver) for giver in range(1, 40)]
        batch = Batch("sample", (Move(TOPIC, 0, 0, 40),), [*changes])
        tries = (store.apply(SAMPLE, batch) for _ in range(4))
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == [
            "NoneType",
            *["PositionMoved"] * 3,
        ]
        for change in changes:
            model.take(change)
        await assert_holds(store, model)

    async def test_a_position_moves_once_a_batch(self, store: ViewStore) -> None:
        moves = (Move(TOPIC, 0, 0, 1), Move(TOPIC, 0, 0, 2))
        with pytest.raises(Bug):
            await store.apply(SAMPLE, Batch("sample", moves, []))


class TestRows:
    async def test_a_created_row_has_all_its_columns(self, store: ViewStore) -> None:
        await apply(store, item(5, 1, 3, title="Tee ☕"))
        assert await store.get_many(ITEMS, [(5,), (6,)]) == {
            (5,): Row(
                {"owner_id": 1, "size": 0, "hidden": False, "title": "Tee ☕", "digest": b""}, 3
            )
        }
        assert await store.get_many(ITEMS, []) == {}

    async def test_rows_come_with_those_that_a_column_names(self, store: ViewStore) -> None:
        await apply(store, item(1, 7, 1, b"r1"), item(5, 1, 2, b"r2", title="five"))
        await apply(store, item(8, 9, 3, b"r3"), item(3, 5, 4, b"r4"), item_end(1, 7, 5))
        keys = [(1,), (3,), (5,), (8,), (99,)]
        assert await store.linked(ITEMS, keys, "owner_id", ITEMS, "title") == {
            (3,): (5, "five"),
            (5,): (1, None),
            (8,): (9, None),
        }
        assert await store.linked(ITEMS, [], "owner_id", ITEMS, "title") == {}

    async def test_numbers_are_of_rows_that_stand(self, store: ViewStore) -> None:
        await apply(store, item(5, 1, 1, b"r1"), item(6, 1, 2, b"r2"), item_end(6, 1, 3))
        await apply(store, title(5, 1, 4, "mine"))
        assert await store.numbers(ITEMS, [(5,), (6,), (99,)]) == {(5,): 4}
        assert await store.numbers(ITEMS, []) == {}

    async def test_the_first_request_of_an_actor_creates(self, store: ViewStore) -> None:
        await apply(store, item(5, 1, 1, b"r1"), item(6, 1, 2, b"r1"), item(5, 2, 3, b"r1"))
        await apply(store, item(7, 1, 4, b"r1"), item(8, 2, 5, b"r1"), item(9, 1, 6, b"r2"))
        assert set(await store.get_many(ITEMS, [(n,) for n in range(5, 10)])) == {(5,), (8,), (9,)}
        keys = [(1, b"r1"), (2, b"r1"), (1, b"r2"), (3, b"r1")]
        assert await store.claims(ITEMS, keys) == {
            (1, b"r1"): ClaimRow(5, b"body of r1", 1, 1_001),
            (2, b"r1"): ClaimRow(8, b"body of r1", 5, 1_005),
            (1, b"r2"): ClaimRow(9, b"body of r2", 6, 1_006),
        }
        assert await store.claims(ITEMS, []) == {}
        assert [edge.target for edge in await store.page(SHELF, 1, limit=9)] == [9, 5]

    async def test_a_guard_holds_off_updates_and_ends(self, store: ViewStore) -> None:
        await apply(store, item(5, 1, 1), title(5, 2, 2, "theirs"), item_end(5, 2, 3))
        await apply(store, title(5, 1, 4, "mine"))
        row = (await store.get_many(ITEMS, [(5,)]))[5,]
        assert (row.values["title"], row.number, row.ended) == ("mine", 4, False)

    async def test_an_end_is_final(self, store: ViewStore) -> None:
        await apply(store, item(5, 1, 1, b"r"), item_end(5, 1, 2))
        await apply(store, title(5, 1, 3, "late"), item(5, 1, 4, b"s"))
        row = (await store.get_many(ITEMS, [(5,)]))[5,]
        assert (row.values["title"], row.number, row.ended) == ("", 2, True)
        assert await store.page(SHELF, 1, limit=9) == []
        assert await store.count(SHELF, [1]) == {1: 0}

    async def test_a_freed_name_can_be_had_again(self, store: ViewStore) -> None:
        await apply(store, label(b"a", 1, 1), label_end(b"a", 1, 2))
        await apply(store, label(b"a", 2, 3), label(b"a", 3, 4))
        assert await store.get_many(LABELS, [(b"a",)]) == {(b"a",): Row({"holder_id": 2}, 3)}

    async def test_old_events_again_do_not_free_a_name(self, store: ViewStore) -> None:
        events: list[Change] = [label(b"a", 1, 1), label_end(b"a", 1, 2), label(b"a", 1, 3)]
        await apply(store, *events)
        await go_back(store, 0, 0)
        for event in events:
            await apply(store, event)
        assert await store.get_many(LABELS, [(b"a",)]) == {(b"a",): Row({"holder_id": 1}, 3)}

    async def test_a_retried_claim_is_older_than_the_end_of_its_name(
        self, store: ViewStore
    ) -> None:
        await apply(store, label(b"a", 1, 2), label_end(b"a", 1, 3))
        await apply(store, label(b"a", 2, 4)._replace(order=1))
        row = (await store.get_many(LABELS, [(b"a",)]))[b"a",]
        assert (row.number, row.ended) == (3, True)

    async def test_a_retried_end_is_final_whatever_came_between(self, store: ViewStore) -> None:
        await apply(store, item(5, 1, 1), title(5, 1, 3, "later"))
        await apply(store, item_end(5, 1, 4)._replace(order=2))
        row = (await store.get_many(ITEMS, [(5,)]))[5,]
        assert (row.values["title"], row.number, row.ended) == ("later", 3, True)
        assert await store.page(SHELF, 1, limit=9) == []

    async def test_the_last_put_counts(self, store: ViewStore) -> None:
        await apply(store, cell(4, 2, b"new"), cell_end(5, 4))
        await apply(store, cell(5, 3, b"late"), cell(4, 6, b"newer"))
        assert await store.get_many(CELLS, [cell_key(4), cell_key(5)]) == {
            cell_key(4): Row({"body": b"newer"}, 6),
            cell_key(5): Row({"body": b""}, 4, ended=True),
        }


class TestEdges:
    async def test_pages_in_their_order(self, store: ViewStore) -> None:
        await apply(store, *(bond(1, taker, taker) for taker in (3, 1, 5, 2)), bond(2, 3, 9))
        await apply(store, bond(1, 2, 10, live=False))
        expected = [EdgeRow(1, taker, taker, 1_000 + taker) for taker in (1, 3, 5)]
        assert await store.page(BONDS, 1, limit=9) == expected
        assert await store.page(BONDS, 1, limit=2) == expected[:2]
        assert await store.page(BONDS, 1, after=1, limit=1) == expected[1:2]
        assert await store.page(BONDS, 1, after=ID_MAX, limit=9) == []
        givers = await store.page(BONDS, 3, limit=9, inverse=True)
        assert givers == [EdgeRow(1, 3, 3, 1_003), EdgeRow(2, 3, 9, 1_009)]
        assert await store.page(BONDS, 3, after=1, limit=9, inverse=True) == givers[1:]

    async def test_sources_of_many_targets(self, store: ViewStore) -> None:
        edges = ((5, 1, 1), (2, 1, 2), (9, 1, 3), (2, 3, 4), (4, 3, 5))
        await apply(store, *(bond(giver, taker, number) for giver, taker, number in edges))
        await apply(store, bond(4, 3, 6, live=False))
        found = await store.inverse_ids(BONDS, [3, 1, 8, 1], limit=2)
        assert found == {1: [2, 5], 3: [2], 8: []}
        assert await store.inverse_ids(BONDS, [], limit=2) == {}

    async def test_a_timeline_goes_down(self, store: ViewStore) -> None:
        await apply(store, *(item(item_id, 1, item_id) for item_id in (3, 1, 5)))
        assert [edge.target for edge in await store.page(SHELF, 1, limit=2)] == [5, 3]
        assert [edge.target for edge in await store.page(SHELF, 1, after=5, limit=9)] == [3, 1]

    async def test_the_newest_of_many(self, store: ViewStore) -> None:
        shelf = [
            EdgeChange("shelf", owner, 100 * turn + owner % 7, True, 1 + owner, 1 + owner, 5)
            for owner in range(60)
            for turn in range(owner % 9)
        ]
        await apply(store, *shelf)
        wanted = [*range(5, 50), 5, 70]
        pairs = {(edge.source, edge.target) for edge in shelf if 5 <= edge.source < 50}
        newest = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
        for limit in (1, 10, 400):
            page = await store.merged_page(SHELF, wanted, limit=limit)
            assert [edge[:2] for edge in page] == newest[:limit]
        below = [pair for pair in newest if pair[1] < 305]
        page = await store.merged_page(SHELF, wanted, before=305, limit=30)
        assert [edge[:2] for edge in page] == below[:30]
        assert await store.merged_page(SHELF, [], limit=5) == []

    async def test_a_version_is_of_the_event_that_began(self, store: ViewStore) -> None:
        await apply(store, bond(1, 2, 1), bond(1, 2, 2))
        await apply(store, bond(1, 2, 3))
        assert await store.edges(BONDS, [(1, 2), (2, 1)]) == {(1, 2): EdgeRow(1, 2, 1, 1_001)}
        await apply(store, bond(1, 2, 4, live=False), bond(1, 2, 5))
        assert await store.edges(BONDS, [(1, 2)]) == {(1, 2): EdgeRow(1, 2, 5, 1_005)}
        await apply(store, bond(1, 2, 6), bond(1, 2, 7, live=False), bond(1, 2, 8))
        assert await store.edges(BONDS, [(1, 2)]) == {(1, 2): EdgeRow(1, 2, 8, 1_008)}
        assert await store.count(BONDS, [1]) == {1: 1}

    async def test_a_retried_event_keeps_its_place(self, store: ViewStore) -> None:
        await apply(store, bond(1, 2, 10))
        await apply(store, bond(1, 2, 11, live=False, order=5), bond(1, 2, 12))
        assert await store.edges(BONDS, [(1, 2)]) == {(1, 2): EdgeRow(1, 2, 10, 1_010)}
        await apply(store, bond(1, 2, 14, live=False, order=13), bond(1, 2, 15))
        assert await store.edges(BONDS, [(1, 2)]) == {(1, 2): EdgeRow(1, 2, 15, 1_015)}

    async def test_scans_can_be_left(self, store: ViewStore) -> None:
        await apply(store, *(bond(1, taker, taker) for taker in range(1, 3_000)))
        for _ in range(20):
            async with aclosing(store.scan_edges(BONDS)) as rows:  # type: ignore[type-var]
                async for row in rows:
                    assert row == EdgeRow(1, 1, 1, 1_001)
                    break
        assert len([row async for row in store.scan_edges(BONDS)]) == 2_999

    async def test_what_is_not_declared_is_a_bug(self, store: ViewStore) -> None:
        uncounted = EdgeTable("shelf", "owner_id", "item_id")
        with pytest.raises(Bug):
            await store.count(uncounted, [1])
        with pytest.raises(Bug):
            await store.page(SHELF, 1, limit=1, inverse=True)
        with pytest.raises(Bug):
            await store.inverse_ids(SHELF, [1], limit=1)
        with pytest.raises(Bug):
            await apply(store, EdgeChange("unknown", 1, 2, True, 1, 1, 1))
        with pytest.raises(Bug):
            await apply(store, RowUpdate("items", (1,), {"colour": 1}, 1, 1, {}))


POISON: list[Change] = [
    item(5, 1, 3, title="a\0b"),
    item(5, 1, 3, title="\ud800"),
    item(5, 1, 3, size=2**31),
    item(5, 2**63, 3),
    item(-(2**63) - 1, 1, 3),
    item(5, 1, 3, title=b"bytes"),
    item(5, 1, 3, hidden=3),
    item(5, 1, 3, digest="text"),
    title(5, 1, 3, "a row that is not there \0"),
    RowPut("cells", (1, 2, "\0", b"", False), {}, 3, 3),
    EdgeChange("bonds", 2**63, 1, True, 3, 3, 1),
    EdgeChange("bonds", 1, -(2**63) - 1, True, 3, 3, 1),
    EdgeChange("bonds", 1, 9, True, 3, 3, 2**63),
]


class TestPoison:
    @pytest.mark.parametrize("poison", POISON, ids=range(len(POISON)))
    async def test_a_bad_value_leaves_nothing_applied(
        self, store: ViewStore, poison: Change
    ) -> None:
        with pytest.raises(PoisonEvent) as caught:
            await apply(store, item(4, 1, 1, b"r"), bond(1, 2, 2), poison, bond(1, 3, 4))
        assert "a row that is not there" not in caught.value.message
        assert (await store.positions("sample"))[TOPIC, 0].position == 0
        await assert_holds(store, Model())

    async def test_a_key_beyond_64_bits_is_the_readers_mistake(self, store: ViewStore) -> None:
        big = ID_MAX + 1
        with pytest.raises(InvalidRequest):
            await store.get_many(ITEMS, [(big,)])
        with pytest.raises(InvalidRequest):
            await store.edges(BONDS, [(1, big)])
        with pytest.raises(InvalidRequest):
            await store.page(BONDS, big, limit=1)
        with pytest.raises(InvalidRequest):
            await store.count(BONDS, [big])
