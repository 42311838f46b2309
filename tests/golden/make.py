"""Golden bytes: what each kind of event looked like on the wire, for ever.

    python tests/golden/make.py     after a field, an event or a message was added

For every message of `social.log.v1` that stands alone (and for each member of its oneof) there
are files `log/MESSAGE[.MEMBER].VERSION.json` with its bytes as hex and its JSON form. Examples
are made from the descriptors and have every field set, so a new field gives a new version; files
that are there are never rewritten, since the log is full of such bytes. `partitions.json` has
the partitions of some keys; it never changes either.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from millrace.log.partitioner import key_of, partition_of

FOLDER = Path(__file__).parent
LOG = FOLDER / "log"
PARTITIONS = FOLDER / "partitions.json"
NOUNS = (
    "comments control dead feed follows likes media names progress saves sealed token users vault"
)
PROTOS = [import_module(f"social.log.v1.{noun}_pb2").DESCRIPTOR for noun in NOUNS.split()]
KEYS = (b"", b"a", b"millrace", bytes(32), *map(key_of, (0, 1, 2, 7, 1_000, 2**40 + 1, 2**63 - 1)))
COUNTS = (1, 3, 8, 64, 1024)


def messages() -> Iterator[Descriptor]:
    """Messages that are no part of another, and those with a oneof, by file and name."""
    found = [descriptor for proto in PROTOS for descriptor in proto.message_types_by_name.values()]
    parts = {
        field.message_type.full_name
        for descriptor in found
        for field in descriptor.fields
        if field.message_type
    }
    for descriptor in found:
        # A vault record's key is serialised by itself as well.
        if descriptor.full_name not in parts or descriptor.name == "VaultKey":
            yield descriptor


def examples() -> Iterator[tuple[str, Message]]:
    """(name, an example with every field set), one for each member of a oneof."""
    for descriptor in messages():
        members = [field for oneof in real_oneofs(descriptor) for field in oneof]
        for member in members:
            yield f"{descriptor.name}.{member.name}", example(descriptor, only=member)
        if not members:
            yield descriptor.name, example(descriptor)


def real_oneofs(descriptor: Descriptor) -> list[list[FieldDescriptor]]:
    """Without those that stand for `optional`, which protoc names with an underscore."""
    return [list(oneof.fields) for oneof in descriptor.oneofs if not oneof.name.startswith("_")]


def example(descriptor: Descriptor, only: FieldDescriptor | None = None) -> Message:
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if only is None or field.name == only.name:
            put(message, field)
    return message


def put(message: Message, field: FieldDescriptor) -> None:
    if field.message_type:
        part = getattr(message, field.name)
        (part.add() if field.is_repeated else part).CopyFrom(example(field.message_type))
    elif field.is_repeated:
        getattr(message, field.name).extend([value(field), value(field, 1)])
    else:
        setattr(message, field.name, value(field))


def value(field: FieldDescriptor, more: int = 0) -> object:
    """Of the field's type, from its number alone; integers need all bytes of their varint."""
    number = field.number + more
    if field.type == FieldDescriptor.TYPE_STRING:
        return f"é{number}"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes([number, 0, 255])
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    if field.enum_type:
        return field.enum_type.values[-1].number
    wide = field.type in (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SFIXED64)
    return number + (2**60 if wide else 2**30)


def golden(message: Message) -> dict[str, object]:
    return {
        "message": message.DESCRIPTOR.full_name,
        "hex": message.SerializeToString(deterministic=True).hex(),
        "json": as_json(message),
    }


def as_json(message: Message) -> dict[str, object]:
    made: dict[str, object] = MessageToDict(message, preserving_proto_field_name=True)
    return made


def versions(name: str) -> list[Path]:
    found = LOG.glob(f"{name}.*.json")
    mine = [path for path in found if path.name.removeprefix(f"{name}.")[:-5].isdigit()]
    return sorted(mine, key=lambda path: int(path.suffixes[-2][1:]))


def partitions() -> dict[str, list[int]]:
    return {key.hex(): [partition_of(key, count) for count in COUNTS] for key in KEYS}


def main() -> int:
    LOG.mkdir(exist_ok=True)
    for name, message in examples():
        made, there = golden(message), versions(name)
        if not any(json.loads(path.read_text()) == made for path in there):
            path = LOG / f"{name}.{len(there) + 1}.json"
            path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
            print(f"new: {path.name}")
    if not PARTITIONS.exists():
        PARTITIONS.write_text(json.dumps(partitions(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
