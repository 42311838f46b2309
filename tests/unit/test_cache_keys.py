"""Every change names the keys of what it changes."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import Bug
from millrace.relations import Edge, Entity, Timeline, View
from millrace.relations.cache_keys import CacheKeys, Touched
from millrace.relations.cache_position import CachePosition, decode, encode
from millrace.stores.changes import (
    Change,
    Claim,
    EdgeChange,
    RowCreate,
    RowEnd,
    RowPut,
    RowUpdate,
)
from millrace.stores.schema import Column
from millrace.views import VIEWS

GOLDEN = Path(__file__).parents[1] / "golden/cache_keys.json"
LOG_ID = 0x5F3A_0000_0000_0001

# Of its own, so that the golden file speaks of how keys are made, not of what is declared today.
ID = (Column("id"),)
DECLARED = View(
    "all",
    ("likes",),
    lambda _: [],
    entities=(
        Entity(
            "media",
            ID,
            (Column("author_id"), Column("caption", "text")),
            claimed=True,
            cache_ttl_s=60,
            policy=True,
        ),
        Entity("users", ID, (Column("deactivated", "bool"),), cache_ttl_s=60, policy=True),
        Entity("names", (Column("name_key", "bytes"),), (), reusable=True, cache_ttl_s=60),
        Entity("vault", ID, ()),
    ),
    edges=(
        Timeline("media_by_author", "author_id", "media_id", counted=True, cache_ttl_s=60),
        Edge("likes", "media_id", "user_id", owner="target", counted=True, cache_ttl_s=60),
        Edge(
            "follows",
            "follower_id",
            "followee_id",
            owner="source",
            counted=True,
            limit=9,
            inverse="followers",
            inverse_counted=True,
            cache_ttl_s=60,
            cached_inverse=True,
        ),
        Edge("saves", "user_id", "media_id", owner="source", counted=True),
    ),
)
KEYS = CacheKeys(LOG_ID, [DECLARED])


def changes() -> list[Change]:
    """Of every kind, of tables that are cached and of one that is not."""
    shown = EdgeChange("media_by_author", 7, 99, True, 5, 5, 1)
    gone = shown._replace(live=False)
    return [
        EdgeChange("likes", 99, 7, True, 5, 5, 1),
        EdgeChange("follows", 7, 8, True, 5, 5, 1),
        EdgeChange("saves", 7, 99, True, 5, 5, 1),
        RowCreate("media", (99,), {}, 5, 5, 1, Claim(7, b"r", b"b"), (shown,)),
        RowUpdate("users", (7,), {}, 5, 5, {}),
        RowCreate("names", (b"n" * 32,), {}, 5, 5, 1),
        RowPut("vault", (7,), {}, 5, 5),
        RowEnd("media", (99,), 6, 6, {}, (gone,)),
    ]


def golden() -> dict[str, list[str]]:
    named = {}
    for number, change in enumerate(changes()):
        touched = KEYS.touched([change])
        name = f"{number} {type(change).__name__} {change.table}"
        named[f"{name} stale"] = [key.decode() for key in touched.stale]
        named[f"{name} deleted"] = [key.decode() for key in touched.deleted]
    return {**named, "position": [KEYS.position.decode()]}


def test_keys_are_as_they_were() -> None:
    """Else a version would not read, and not invalidate, what the one before it has cached."""
    assert golden() == json.loads(GOLDEN.read_text())


def test_all_changes_together_touch_what_each_touches() -> None:
    together = KEYS.touched(changes())
    alone = [KEYS.touched([change]) for change in changes()]
    assert set(together.stale) == {key for one in alone for key in one.stale}
    assert set(together.deleted) == {key for one in alone for key in one.deleted}
    for some in together:
        assert len(set(some)) == len(some)


def test_what_the_policy_reads_is_deleted() -> None:
    touched = KEYS.touched(changes())
    assert any(b":users.row." in key for key in touched.deleted)
    assert any(b":media.row." in key for key in touched.deleted)
    assert not any(b".row." in key for key in touched.stale if b":names." not in key)


def test_a_rename_touches_the_rows_of_both_names() -> None:
    """Its three events in a row: the claim, the user's row, the end of the old name."""
    renaming: list[Change] = [
        RowCreate("names", (b"new",), {}, 1, 1, 1),
        RowUpdate("users", (7,), {}, 1, 1, {}),
        RowEnd("names", (b"old",), 2, 2, {}),
    ]
    touched = KEYS.touched(renaming)
    rows = KEYS.rows["names"]
    assert set(touched.stale) == {rows.key((b"new",)), rows.key((b"old",))}
    assert touched.deleted == [KEYS.rows["users"].key((7,))]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5))))
def test_the_fast_path_touches_what_changes_touch(pairs: list[tuple[int, int]]) -> None:
    likes = [EdgeChange("likes", *pair, True, 1, 1, 1) for pair in pairs]
    fast, slow = KEYS.edges["likes"].touched(pairs), KEYS.touched(likes)
    assert Touched(sorted(fast.stale), sorted(fast.deleted)) == (
        sorted(slow.stale),
        sorted(slow.deleted),
    )


def test_kinds_follow_the_declaration() -> None:
    edge = Edge(
        "e",
        "a",
        "b",
        owner="source",
        counted=True,
        inverse="i",
        inverse_counted=True,
        limit=9,
        cache_ttl_s=60,
        cached_pairs=True,
        cached_inverse=True,
        policy=True,
    )
    line = Timeline("t", "a", "b", cache_ttl_s=60)
    view = View("v", ("likes",), lambda _: [], edges=(edge, line))
    keys = CacheKeys(1, [view])
    touched = keys.edges["e"].touched([(3, 4)])
    ended = [
        key.rpartition(b":")[0].split(b".")[1] + b" " + key.rpartition(b":")[2]
        for some in touched
        for key in some
    ]
    assert ended == [
        b"count 3",
        b"inverse_count 4",
        b"page 3",
        b"whole 3",
        b"inverse_page 4",
        b"pair 3,4",
    ]
    assert len(touched.stale) == 2
    assert keys.edges["t"].touched([(3, 4)]).stale == [keys.edges["t"].page + b"3"]


def test_other_columns_are_other_keys_and_another_position() -> None:
    def keys_of(*columns: Column) -> CacheKeys:
        entity = Entity("e", (Column("id"),), columns, cache_ttl_s=60)
        return CacheKeys(1, [View("v", ("likes",), lambda _: [], entities=(entity,))])

    one, other = keys_of(Column("a")), keys_of(Column("a", "text"))
    assert one.rows["e"].key((1,)) != other.rows["e"].key((1,))
    assert one.position != other.position
    assert keys_of(Column("a")).position == one.position


def test_keys_of_any_kind_of_value_are_short_and_differ() -> None:
    columns = (Column("a"), Column("b", "text"), Column("c", "bytes"))
    entity = Entity("e", columns, (), cache_ttl_s=60)
    rows = CacheKeys(1, [View("v", ("likes",), lambda _: [], entities=(entity,))]).rows["e"]
    some = [
        (1, "a b\r\n", b"\0"),
        (1, "a", b"b\r\n\0"),
        (-1, "x" * 9_999, b""),
        (-1, "x" * 9_998, b""),
        (1, "", b","),
    ]
    made = {rows.key(key) for key in some}
    assert len(made) == len(some)
    assert all(len(key) <= 250 and key.isascii() and not set(key) & set(b" \r\n") for key in made)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cache_ttl_s": -1},
        {"cache_ttl_s": 40 * 24 * 3600},
        {"cached_pairs": True},
        {"cached_inverse": True, "cache_ttl_s": 60},
    ],
)
def test_a_declaration_that_cannot_be_meant_is_a_bug(wrong: dict[str, int]) -> None:
    with pytest.raises(Bug):
        Edge("e", "a", "b", owner="source", **wrong)  # type: ignore[arg-type]


def test_tables_of_one_name_are_a_bug() -> None:
    with pytest.raises(Bug):
        CacheKeys(1, [*VIEWS, *VIEWS])


def test_a_position_is_read_as_it_was_written() -> None:
    numbers = {("likes", 0): 4, ("likes", 3): 2**62, ("users", 0): 0}
    read = decode(encode(CachePosition(1_700_000_000_000, numbers, {"likes": 2})))
    assert read is not None
    assert (read.as_of_ms, read.epochs) == (1_700_000_000_000, {"likes": 2})
    assert read.numbers == {**numbers, ("likes", 1): 0, ("likes", 2): 0}
    assert read.covers({("likes", 3): 2**62})
    assert not read.covers({("likes", 2): 1})
    assert not read.covers({("likes", 9): 1})
    assert read.usable(1_700_000_005_000)
    assert not read.usable(1_700_000_005_001)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0",
        b"junk",
        encode(CachePosition(1, {}, {}))[:-1],
        b"\x93\x01\x02\x03",
        b"\x94\x02\x00\x80\x80",
        b"\x94\x01\xc0\x80\x80",
        b"\x94\x01\x00\x90\x80",
    ],
)
def test_what_is_no_position_is_none(value: bytes) -> None:
    assert decode(value) is None
