"""An event's fields for people to read. Personal text and secrets stay sealed."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from social.log.v1.sealed_pb2 import Sealed

BYTES_SHOWN_MAX = 16
ITEMS_SHOWN_MAX = 5
# Of what holds secrets, whatever key has sealed them, not a byte is shown.
_SECRET_FIELDS = ("box", "seed")


def described(message: Message) -> Iterator[tuple[str, str]]:
    """(name, value) of each field that is set, in the order of the numbers."""
    for field, value in message.ListFields():
        if field.is_repeated:
            yield field.name, _items(field, value)
        else:
            yield field.name, _one(field, value)


def time_of(at_ms: int) -> str:
    try:
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return f"{at_ms} ms"
    return at.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")


def bytes_of(value: bytes) -> str:
    if len(value) <= BYTES_SHOWN_MAX:
        return value.hex() or "empty"
    return f"{value[:BYTES_SHOWN_MAX].hex()}… ({len(value)} bytes)"


def _items(field: FieldDescriptor, values: Sequence[object]) -> str:
    shown = ", ".join(_one(field, value) for value in values[:ITEMS_SHOWN_MAX])
    return shown if len(values) <= ITEMS_SHOWN_MAX else f"{shown}, … ({len(values)} in all)"


def _one(field: FieldDescriptor, value: object) -> str:
    if isinstance(value, Sealed):
        return f"sealed with the data key of user {value.owner_id} ({len(value.box)} bytes)"
    if isinstance(value, Message):
        return "{" + ", ".join(f"{name} {text}" for name, text in described(value)) + "}"
    if isinstance(value, bytes):
        secret = field.name in _SECRET_FIELDS
        return f"sealed ({len(value)} bytes)" if secret else bytes_of(value)
    if field.name == "at_ms" and isinstance(value, int):
        return time_of(value)
    if field.enum_type is not None and isinstance(value, int):
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else str(value)
    return str(value)
