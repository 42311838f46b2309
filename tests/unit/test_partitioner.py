"""Keys and partitions."""

from hypothesis import given
from hypothesis import strategies as st

from millrace.log.partitioner import key_of, partition_of, partition_of_owner

owners = st.integers(0, 2**63 - 1)


@given(owners, st.integers(1, 4096))
def test_an_owner_is_where_his_key_is(owner: int, partitions: int) -> None:
    partition = partition_of_owner(owner, partitions)
    assert partition == partition_of(key_of(owner), partitions)
    assert 0 <= partition < partitions


@given(st.sets(owners, max_size=50))
def test_keys_are_distinct_and_as_long_as_each_other(some: set[int]) -> None:
    keys = {key_of(owner) for owner in some}
    assert len(keys) == len(some)
    assert all(len(key) == 8 for key in keys)


def test_dense_ids_spread_evenly() -> None:
    counts = [0] * 64
    for owner in range(64_000):
        counts[partition_of_owner(owner, 64)] += 1
    assert 850 < min(counts) <= max(counts) < 1_150
