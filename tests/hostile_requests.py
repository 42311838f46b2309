"""Requests by their descriptors: one that is allowed, and each field at and beyond its limits.

What a rule means is said here anew, not asked of millrace/validation. A rule or a type that this
module does not know raises AssertionError, so that a new one cannot slip past the suites.
"""

import itertools
import re
import secrets
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from buf.validate import validate_pb2
from tests.hostile import NOBODY, PICTURE, Rpc
from tests.serving import PASSWORD, Person

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
WIDE = "\U0001f701"  # four bytes in UTF-8
_INTS = {FieldDescriptor.TYPE_INT32: 31, FieldDescriptor.TYPE_INT64: 63}
_KINDS_KNOWN = {"string", "bytes", "enum", "repeated", "int32", "int64"}
_RULES_KNOWN = {
    "string": {"min_len", "max_len", "pattern", "uuid"},
    "bytes": {"min_len", "max_len"},
    "enum": {"defined_only"},
    "repeated": {"min_items", "max_items", "items"},
    "int32": {"gte", "lte", "gt", "lt"},
    "int64": {"gte", "lte", "gt", "lt"},
}

# A millionth of what Unicode allows; what is stored comes back as it was, or is refused.
TEXTS = {
    "right to left": "\u202etxt.exe\u202c \u2066abc\u2069",
    "a thousand accents": "e" + "\u0301" * 1000,
    "zero width": "a\u200b\u200d\ufeffb",
    "family of emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 3,
    "not a character": "\uffff\U0010ffff",
    "controls": "\x01\x1b[2J\x7f\x85",
    "new lines": 'a\n{"level": "error", "event": "forged"}\r\nb',
    "markup": "<script>alert(1)</script>'); DROP TABLE users; --",
    "formats": "%s%n{0}{call.parts.keys}${jndi:ldap://x}",
    "blank": " \t\u3000",
}
# No handles, though some look like one: a Cyrillic es, full width, a long s, Kelvin signs.
LOOKALIKES = (
    "abc\n", "\nabc", "ab c", "ab\u0441", "\uff41\uff42\uff43", "abc-", "\u017ftar", "\u212a" * 3,
    "../..", "a%00",
)  # fmt: skip
UUIDS = [
    "", "x", "0" * 36, "{" + str(uuid.uuid4()) + "}", f"urn:uuid:{uuid.uuid4()}", uuid.uuid4().hex,
    f"{uuid.uuid4()}\n", f" {uuid.uuid4()}", f"{uuid.uuid4()}0", str(uuid.uuid4())[:-1],
    str(uuid.uuid4()).replace("-", "_"), "０" * 8 + str(uuid.uuid4())[8:],
    str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1)), str(uuid.uuid1()).upper(),
    "g" + str(uuid.uuid4())[1:], str(uuid.uuid4())[:-1] + "\0",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tried:
    """One field of one request as it must not, or may just, be. `breaks`: the field that the
    refusal must name; None when the rules allow it.
    """

    label: str
    messages: Sequence[bytes]
    breaks: str | None


class Cast(Protocol):
    """Whom and what requests name: who acts, somebody else, an item of the actor's."""

    actor: Person
    ben: Person
    media_id: int


def known_values(attack: Cast) -> dict[str, Any]:
    """What a field of this name holds in an allowed request. Others get what their rule allows."""
    other = attack.ben.user_id
    return {
        "request_id": str(uuid.uuid4()),
        "handle": f"h{secrets.token_hex(6)}",
        "password": PASSWORD,
        "old_password": PASSWORD,
        "new_password": PASSWORD,
        "refresh_token": attack.actor.refresh_token,
        "user_id": other,
        "follower_id": other,
        "media_id": attack.media_id,
        "comment_id": NOBODY,
        "user_ids": [other],
        "media_ids": [attack.media_id],
        "chunk": PICTURE,
    }


def allowed(rpc: Rpc, attack: Cast) -> list[Message]:
    """The messages of a call that the rules allow: of a stream, one for each case of its oneof."""
    known = known_values(attack)
    if rpc.name == "LogIn":
        known["handle"] = attack.actor.handle
    return _filled(rpc.request, known)


def sent(messages: Sequence[Message]) -> list[bytes]:
    return [message.SerializeToString() for message in messages]


def _filled(kind: type[Message], known: dict[str, Any]) -> list[Message]:
    oneofs = [one for one in kind.DESCRIPTOR.oneofs if len(one.fields) > 1]
    cases: list[Any] = list(oneofs[0].fields) if oneofs else [None]
    made = []
    for case in cases:
        message = kind()
        fields: Any = kind.DESCRIPTOR.fields
        for field in fields:
            if field.containing_oneof in oneofs and field is not case:
                continue
            _fill(message, field, known)
        made.append(message)
    return made


def _fill(message: Message, field: FieldDescriptor, known: dict[str, Any]) -> None:
    rules = rules_of(field)
    if field.is_repeated:
        value = known.get(field.name)
        if value is None and rules.repeated.min_items:
            if field.message_type is not None:
                value = _filled(GetMessageClass(field.message_type), known)
            else:
                value = [1]
        getattr(message, field.name).extend(value or [])
    elif field.message_type is not None:
        (inner,) = _filled(GetMessageClass(field.message_type), known)
        getattr(message, field.name).CopyFrom(inner)
    elif field.name in known:
        setattr(message, field.name, known[field.name])
    elif field.type == FieldDescriptor.TYPE_STRING:
        assert not rules.string.pattern, f"{field.full_name}: say what it may hold"
        setattr(message, field.name, "a" * rules.string.min_len)
    elif field.type in _INTS:
        kind = getattr(rules, _kind(rules) or "int64")
        setattr(message, field.name, kind.gt + 1 if kind.HasField("gt") else max(kind.gte, 0))


def rules_of(field: FieldDescriptor) -> validate_pb2.FieldRules:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    _check_known(field, rules)
    if rules.HasField("repeated"):
        _check_known(field, rules.repeated.items)
    return rules


def _kind(rules: validate_pb2.FieldRules) -> str | None:
    return rules.WhichOneof("type")


def _check_known(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> None:
    kind = _kind(rules)
    set_ = {rule.name for rule, _ in rules.ListFields()}
    assert set_ <= _KINDS_KNOWN, f"{field.full_name}: hostile_requests knows no rule {set_}"
    if kind is not None:
        used = {rule.name for rule, _ in getattr(rules, kind).ListFields()}
        assert used <= _RULES_KNOWN[kind], f"{field.full_name}: no values for {kind}.{used}"


# --- one field at a time --------------------------------------------------------------------------


def fields_tried(rpc: Rpc, attack: Cast) -> Iterator[Tried]:
    """Every field of the request and of the messages in it, at, below and above its limits."""
    for path, field in _fields(rpc.method.input_type, ()):
        for label, value, is_allowed in _values(field):
            messages = allowed(rpc, attack)
            for message in messages:
                if _put(message, path, value):
                    break
            else:
                raise AssertionError(f"{rpc.name}: no message has {path}")
            breaks = None if is_allowed else _named(path)
            yield Tried(f"{_named(path)}: {label}", sent(messages), breaks)


def _fields(
    message: Descriptor, outer: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], FieldDescriptor]]:
    for field in message.fields:
        path = (*outer, field.name)
        if field.message_type is not None:
            yield from _fields(field.message_type, path)
        if field.message_type is None or field.is_repeated:
            yield path, field


def _named(path: Sequence[str]) -> str:
    return ".".join(path)


def names_it(fields: Sequence[str], path: str) -> bool:
    """Whether a refusal names this field; list indexes aside."""
    return path in {re.sub(r"\[\d+\]", "", field) for field in fields}


def _put(message: Message, path: Sequence[str], value: Any) -> bool:
    """False when this message has another case of the oneof."""
    *outer, name = path
    inner: Any = message
    for step in outer:
        field = inner.DESCRIPTOR.fields_by_name[step]
        if not field.is_repeated and not inner.HasField(step):
            return False
        inner = getattr(inner, step)[0] if field.is_repeated else getattr(inner, step)
    field = inner.DESCRIPTOR.fields_by_name[name]
    oneof = field.containing_oneof
    if oneof is not None and inner.WhichOneof(oneof.name) not in (None, name):
        return False
    for other in _instead_of(field):
        inner.ClearField(other)
    if field.is_repeated:
        items = getattr(inner, name)
        del items[:]
        items.extend(value(field) if callable(value) else value)
    else:
        setattr(inner, name, value)
    return True


def _instead_of(field: FieldDescriptor) -> set[str]:
    """The fields of its message that may not be set beside it."""
    holder: Any = field.containing_type
    options = holder.GetOptions()
    one_of = options.Extensions[validate_pb2.message].oneof
    return {name for rule in one_of if field.name in rule.fields for name in rule.fields}


def _values(field: FieldDescriptor) -> Iterator[tuple[str, Any, bool]]:
    """(label, value, whether the rules allow it)"""
    rules = rules_of(field)
    if field.is_repeated:
        yield from _lists(field, rules)
        return
    yield from _single(field, rules)


def _single(
    field: FieldDescriptor, rules: validate_pb2.FieldRules
) -> Iterator[tuple[str, Any, bool]]:
    if field.type == FieldDescriptor.TYPE_STRING:
        yield from _strings(rules.string)
    elif field.type in _INTS:
        yield from _ints(_INTS[field.type], getattr(rules, _kind(rules) or "int64"))
    elif field.type == FieldDescriptor.TYPE_BYTES:
        for size in _around(rules.bytes.min_len, rules.bytes.max_len):
            data = (PICTURE + bytes(size))[:size]
            is_allowed = rules.bytes.min_len <= size <= rules.bytes.max_len
            yield f"{size} bytes", data, is_allowed
    elif field.type == FieldDescriptor.TYPE_ENUM:
        enum: Any = field.enum_type
        numbers: set[int] = set(enum.values_by_number)
        for number in (*sorted(numbers), max(numbers) + 1, -1, 2**31 - 1, -(2**31)):
            yield f"enum {number}", number, number in numbers or not rules.enum.defined_only
    elif field.type == FieldDescriptor.TYPE_BOOL:
        yield from ((str(value), value, True) for value in (False, True))
    else:
        raise AssertionError(f"{field.full_name}: no values for its type")


def _around(least: int, most: int) -> list[int]:
    sizes = {0, 1, least - 1, least, least + 1, most - 1, most, most + 1}
    return sorted(size for size in sizes if size >= 0)


def _strings(rules: validate_pb2.StringRules) -> Iterator[tuple[str, str, bool]]:
    allows = _allows(rules)
    tried: dict[str, str] = {f"{name}": text for name, text in TEXTS.items()}
    tried |= {"U+0000": "\0", "U+0000 within": "abc\0defgh"}
    if rules.uuid:
        tried |= {f"uuid {text!r}": text for text in UUIDS}
    elif rules.pattern:
        for size, letter in itertools.product((0, 1, 2, 3, 30, 31, 1000), ("a", ".", WIDE)):
            tried[f"{size} of {letter}"] = letter * size
        for text in (
            "abc\n",
            "\nabc",
            "ab c",
            "abс",
            "ａｂｃ",
            "abc-",
            "ſtar",
            "K" * 3,
            "../..",
            "a%00",
        ):
            tried[repr(text)] = text
    else:
        sizes = _around(rules.min_len, rules.max_len)
        for size, letter in itertools.product(sizes, ("a", WIDE, "\u0301")):
            tried[f"{size} of {letter!r}"] = letter * size
    for label, text in tried.items():
        yield label, text, allows(text)


def _allows(rules: validate_pb2.StringRules) -> Callable[[str], bool]:
    if rules.uuid:
        return lambda text: UUID.fullmatch(text) is not None
    if rules.pattern:
        pattern = re.compile(rules.pattern.removeprefix("^").removesuffix("$"), re.ASCII)
        return lambda text: pattern.fullmatch(text) is not None
    most = rules.max_len if rules.HasField("max_len") else 10**9
    return lambda text: "\0" not in text and rules.min_len <= len(text) <= most


def _ints(bits: int, rules: Any) -> Iterator[tuple[str, int, bool]]:
    bounds = {name: getattr(rules, name) for name in ("gt", "gte", "lt", "lte")}
    bounds = {name: bound for name, bound in bounds.items() if rules.HasField(name)}
    lowest, highest = -(2**bits), 2**bits - 1
    tried = {lowest, -1, 0, 1, highest, NOBODY if bits == 63 else 1}
    tried |= {bound + step for bound in bounds.values() for step in (-1, 0, 1)}
    for value in sorted(tried):
        is_allowed = (
            value > bounds.get("gt", lowest - 1)
            and value >= bounds.get("gte", lowest)
            and value < bounds.get("lt", highest + 1)
            and value <= bounds.get("lte", highest)
        )
        yield f"{value}", value, is_allowed


def _lists(
    field: FieldDescriptor, rules: validate_pb2.FieldRules
) -> Iterator[tuple[str, Any, bool]]:
    least, most = rules.repeated.min_items, rules.repeated.max_items
    for size in (*_around(least, most), 10 * most):
        is_allowed = least <= size <= most
        if size == 0 and _instead_of(field):
            continue  # Then the other one is meant.
        yield f"{size} items", _items(size), is_allowed
    if field.message_type is None:
        for label, value, is_allowed in _single(field, rules.repeated.items):
            yield f"one item, {label}", [value], is_allowed


def _items(size: int) -> Callable[[FieldDescriptor], list[Any]]:
    def make(field: FieldDescriptor) -> list[Any]:
        if field.message_type is not None:
            kind = GetMessageClass(field.message_type)
            made: list[Any] = [kind() for _ in range(size)]
            for number, message in enumerate(made, 1):
                for inner in field.message_type.fields:
                    if inner.type == FieldDescriptor.TYPE_INT64:
                        setattr(message, inner.name, number)
            return made
        if field.type == FieldDescriptor.TYPE_STRING:
            return [f"nobody.{number}" for number in range(size)]
        return list(range(NOBODY, NOBODY + size))

    return make
