"""Which partition a key belongs to: XXH3 of the key's bytes, modulo the partitions.

Ours instead of Kafka's, so that any language and any client agrees for ever; golden-tested.
"""

import xxhash


def key_of(owner_id: int) -> bytes:
    """An owner's id as a record key: 8 bytes, big-endian."""
    return owner_id.to_bytes(8, "big")


def partition_of(key: bytes, partitions: int) -> int:
    return xxhash.xxh3_64_intdigest(key) % partitions


def partition_of_owner(owner_id: int, partitions: int) -> int:
    return partition_of(key_of(owner_id), partitions)
