"""The rules beside the fields of the protos, compiled once to plain Python checks.

    check = compile_rules(RegisterRequest.DESCRIPTOR)     at the start of a process
    violations = check(request)                           about a microsecond; () when all is well

Rules:    those of buf/validate/validate.proto that the tables below name, with the meaning and the
          rule ids of the protovalidate library, which is the oracle in tests. Nested and repeated
          messages are walked.
House:    no string holds U+0000, which PostgreSQL cannot store: rule `string.no_nul`. (What is no
          UTF-8, lone surrogates included, never gets here: protobuf refuses it.)
          Items of a list that is too long are not looked at.
Unknown:  a rule that is not in the tables raises UnsupportedRule, which stops the start.
Not:      CEL, maps, recursive messages; what takes more than the request to decide (whether a name
          is taken, whether an item exists).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import (
    Descriptor,
    FieldDescriptor,
    OneofDescriptor,
    ServiceDescriptor,
)
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from buf.validate import validate_pb2
from millrace.errors import Bug, FieldViolation

# What a value breaks; paths are relative to the value. Nothing is allocated when it breaks nothing.
Found = Sequence[FieldViolation]
Check = Callable[[Any], Found]
Broken = Callable[[Any], object]  # true when the value breaks the rule
Test = tuple[Broken, str, str]  # with the rule's id and what to tell the client
Limits = dict[str, Any]  # a kind's rules as set on a field: name of the rule -> its value

NOTHING: Found = ()
FIELD_RULES = frozenset({"required", "ignore", "string", "bytes", "enum", "repeated"})
INT_TYPES = frozenset(
    {"int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64"}
)
IS_UUID = re.compile("[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}").fullmatch
EMPTY_UUID = FieldViolation("", "string.uuid_empty", "value is empty, which is not a valid UUID")
MALFORMED_UUID = FieldViolation("", "string.uuid", "must be a valid UUID")
# Of a list this many broken items are reported, and of one of a wrong length none: so a list of a
# million zeros costs no more than a short one, and an answer stays below the limit on metadata.
ITEMS_REPORTED_MAX = 10
# Patterns mean the same in RE2 and in `re` when they are one anchored run of plain classes.
SAFE_PATTERN = re.compile(r"\^([^\\^$|()]*)\$")


class UnsupportedRule(Bug):
    """A proto uses a rule that this module cannot check."""


def compile_service(service: ServiceDescriptor) -> dict[str, Check]:
    """The check of each method's requests by gRPC path, `/social.v1.UsersService/Register`."""
    return {
        f"/{service.full_name}/{method.name}": compile_rules(method.input_type)
        for method in service.methods
    }


def compile_rules(message: Descriptor) -> Check:
    """The check of one message class. Raises UnsupportedRule."""
    return _message(message, ()) or _nothing


# --- messages -------------------------------------------------------------------------------


def _message(message: Descriptor, outer: tuple[str, ...]) -> Check | None:
    """None when there is nothing to check, such as in a Timestamp."""
    if message.full_name in outer:
        raise UnsupportedRule(f"{message.full_name} is recursive")
    rules = message.GetOptions().Extensions[validate_pb2.message]
    _refuse_others(message.full_name, rules, {"oneof"})
    one_of = {name for rule in rules.oneof for name in rule.fields}
    outer = (*outer, message.full_name)
    found = [
        *(_oneof(oneof.name) for oneof in message.oneofs if _is_required(oneof)),
        *(_message_oneof(message, rule) for rule in rules.oneof),
        *(_field(field, field.name in one_of, outer) for field in message.fields),
    ]
    return _all_of([check for check in found if check is not None])


def _all_of(checks: list[Check]) -> Check | None:
    if len(checks) < 2:
        return checks[0] if checks else None

    def check(value: Any) -> Found:
        found = NOTHING
        for each in checks:
            if broken := each(value):
                found = (*found, *broken)
        return found

    return check


def _is_required(oneof: OneofDescriptor) -> bool:
    rules = oneof.GetOptions().Extensions[validate_pb2.oneof]
    _refuse_others(oneof.full_name, rules, {"required"})
    return bool(rules.required)


def _oneof(name: str) -> Check:
    missing = (FieldViolation(name, "required", "exactly one field is required in oneof"),)
    return lambda value: NOTHING if value.WhichOneof(name) else missing


def _message_oneof(message: Descriptor, rule: validate_pb2.MessageOneofRule) -> Check:
    are_set = [_is_set(message.fields_by_name[name]) for name in rule.fields]
    names = ", ".join(rule.fields)
    none = (FieldViolation("", "message.oneof", f"one of {names} must be set"),)
    many = (FieldViolation("", "message.oneof", f"only one of {names} can be set"),)

    def check(value: Any) -> Found:
        count = sum(1 for is_set in are_set if is_set(value))
        if count == 1 or (count == 0 and not rule.required):
            return NOTHING
        return many if count else none

    return check


# --- fields ---------------------------------------------------------------------------------


def _field(field: FieldDescriptor, in_message_oneof: bool, outer: tuple[str, ...]) -> Check | None:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    _refuse_others(field.full_name, rules, FIELD_RULES | INT_TYPES)
    if rules.ignore == validate_pb2.IGNORE_ALWAYS:
        raise UnsupportedRule(f"{field.full_name}: IGNORE_ALWAYS")
    of_value = _repeated(field, rules, outer) if field.is_repeated else _value(field, rules, outer)
    optional = (
        field.has_presence
        or in_message_oneof
        or rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE
        or rules.required
    )
    if of_value is None and not rules.required:
        return None
    return _at(field, of_value, _is_set(field) if optional else None, rules.required)


def _at(
    field: FieldDescriptor, of_value: Check | None, is_set: Broken | None, required: bool
) -> Check:
    """Applies the check of a value to a message's field."""
    name, get, check = field.name, attrgetter(field.name), of_value or _nothing
    missing = (FieldViolation(name, "required", "value is required"),) if required else NOTHING

    def check_field(message: Any) -> Found:
        found = check(get(message))
        return _under(name, found) if found else NOTHING

    if is_set is None:
        return check_field
    return lambda message: check_field(message) if is_set(message) else missing


def _nothing(_: Any) -> Found:
    return NOTHING


def _is_set(field: FieldDescriptor) -> Broken:
    name = field.name
    return (lambda message: message.HasField(name)) if field.has_presence else attrgetter(name)


def _under(outer: str, found: Iterable[FieldViolation]) -> Found:
    def joined(inner: str) -> str:
        return f"{outer}.{inner}" if inner and inner[0] != "[" else outer + inner

    return tuple(FieldViolation(joined(each.field), each.rule, each.description) for each in found)


def _repeated(
    field: FieldDescriptor, rules: validate_pb2.FieldRules, outer: tuple[str, ...]
) -> Check | None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        raise UnsupportedRule(f"{field.full_name} is a map")
    limits = _limits(field, rules, "repeated", {"min_items", "max_items", "items"})
    items: validate_pb2.FieldRules = limits.pop("items", validate_pb2.FieldRules())
    _refuse_others(field.full_name, items, (FIELD_RULES | INT_TYPES) - {"required", "ignore"})
    of_item = _value(field, items, outer)
    of_length = _tested([REPEATED[rule](value) for rule, value in limits.items()]) or _nothing
    of_items = _each(of_item) if of_item is not None else _nothing
    return lambda values: of_length(values) or of_items(values)


def _each(of_item: Check) -> Check:
    def check(values: Any) -> Found:
        found, items = NOTHING, 0
        for index, value in enumerate(values):
            if broken := of_item(value):
                found = (*found, *_under(f"[{index}]", broken))
                items += 1
                if items == ITEMS_REPORTED_MAX:
                    break
        return found

    return check


def _value(
    field: FieldDescriptor, rules: validate_pb2.FieldRules, outer: tuple[str, ...]
) -> Check | None:
    """The check of one value of a field: of the value itself, or of an item of a list."""
    if field.message_type is not None:
        _refuse_others(field.full_name, rules, {"required", "ignore"})
        return _message(field.message_type, outer)
    kind = KINDS.get(field.type, "")
    if kind in INT_TYPES:
        return _tested(_int_tests(field, kind, _limits(field, rules, kind, INT_BOUNDS)))
    if kind == "enum":
        return _tested(_enum_tests(field, _limits(field, rules, kind, {"defined_only"})))
    if rules.string.uuid:
        _limits(field, rules, kind, {"uuid"})
        return _uuid
    table = {"string": STRING, "bytes": BYTES}.get(kind, {})
    limits = _limits(field, rules, kind, set(table))
    tests = [NO_NUL] if kind == "string" else []
    return _tested(tests + [test for rule, value in limits.items() for test in table[rule](value)])


# --- rules ----------------------------------------------------------------------------------


def _tested(tests: list[Test]) -> Check | None:
    """One check that a value breaks none of these."""
    if not tests:
        return None
    pairs = [(broken, FieldViolation("", rule, text)) for broken, rule, text in tests]
    first, only = pairs[0][0], (pairs[0][1],)

    def check_one(value: Any) -> Found:
        return only if first(value) else NOTHING

    def check(value: Any) -> Found:
        found = NOTHING
        for broken, violation in pairs:
            if broken(value):
                found = (*found, violation)
        return found

    return check_one if len(pairs) == 1 else check


def _pattern(pattern: str) -> list[Test]:
    safe = SAFE_PATTERN.fullmatch(pattern)
    if safe is None:
        raise UnsupportedRule(f"pattern {pattern} may mean something else in RE2")
    match = re.compile(safe[1]).fullmatch
    return [(lambda s: not match(s), "string.pattern", f"does not match regex pattern `{pattern}`")]


def _uuid(value: str) -> Found:
    """A whole check, since every write has a request_id. A UUID cannot hold U+0000."""
    if IS_UUID(value):
        return NOTHING
    return (MALFORMED_UUID,) if value else (EMPTY_UUID,)


def _among(kind: str) -> Callable[[Iterable[Any]], list[Test]]:
    def tests(values: Iterable[Any]) -> list[Test]:
        allowed = frozenset(values)
        text = f"must be in list [{', '.join(map(str, sorted(allowed)))}]"
        return [(lambda value: value not in allowed, f"{kind}.in", text)]

    return tests


NO_NUL: Test = (lambda s: "\0" in s, "string.no_nul", "must not hold the character U+0000")

# Lengths of strings are in characters (code points), of bytes in bytes.
STRING: dict[str, Callable[[Any], list[Test]]] = {
    "min_len": lambda n: [
        (lambda s: len(s) < n, "string.min_len", f"must be at least {n} characters")
    ],
    "max_len": lambda n: [
        (lambda s: len(s) > n, "string.max_len", f"must be at most {n} characters")
    ],
    "pattern": _pattern,
    "in": _among("string"),
}
BYTES: dict[str, Callable[[Any], list[Test]]] = {
    "len": lambda n: [(lambda b: len(b) != n, "bytes.len", f"must be {n} bytes")],
    "min_len": lambda n: [(lambda b: len(b) < n, "bytes.min_len", f"must be at least {n} bytes")],
    "max_len": lambda n: [(lambda b: len(b) > n, "bytes.max_len", f"must be at most {n} bytes")],
}
REPEATED: dict[str, Callable[[int], Test]] = {
    "min_items": lambda n: (
        lambda items: len(items) < n,
        "repeated.min_items",
        f"must contain at least {n} item(s)",
    ),
    "max_items": lambda n: (
        lambda items: len(items) > n,
        "repeated.max_items",
        f"must contain no more than {n} item(s)",
    ),
}
LOWER: dict[str, tuple[Callable[[int], Broken], str]] = {
    "gt": (lambda n: lambda value: value <= n, "greater than"),
    "gte": (lambda n: lambda value: value < n, "greater than or equal to"),
}
UPPER: dict[str, tuple[Callable[[int], Broken], str]] = {
    "lt": (lambda n: lambda value: value >= n, "less than"),
    "lte": (lambda n: lambda value: value > n, "less than or equal to"),
}
INT_BOUNDS = LOWER.keys() | UPPER.keys() | {"in"}
KINDS = {
    getattr(FieldDescriptor, f"TYPE_{kind.upper()}"): kind
    for kind in (*INT_TYPES, "string", "bytes", "enum")
}


def _int_tests(field: FieldDescriptor, kind: str, limits: Limits) -> list[Test]:
    """A lower and an upper bound are one rule with one id, such as int32.gte_lte."""
    tests = _among(kind)(limits.pop("in")) if "in" in limits else []
    bounds = [
        (name, limits[name], table) for table in (LOWER, UPPER) for name in table.keys() & limits
    ]
    if not bounds:
        return tests
    if len(bounds) == 2 and bounds[0][1] >= bounds[1][1]:
        raise UnsupportedRule(f"{field.full_name}: the lower bound is not below the upper one")
    rule = "_".join(name for name, _, _ in bounds)
    text = " and ".join(f"{table[name][1]} {limit}" for name, limit, table in bounds)
    brokens = [table[name][0](limit) for name, limit, table in bounds]
    first, last = brokens[0], brokens[-1]
    broken = first if len(brokens) == 1 else lambda value: first(value) or last(value)
    return [*tests, (broken, f"{kind}.{rule}", f"must be {text}")]


def _enum_tests(field: FieldDescriptor, limits: Limits) -> list[Test]:
    if not limits.get("defined_only"):
        return []
    numbers = frozenset(field.enum_type.values_by_number if field.enum_type else ())
    text = "value must be one of the defined enum values"
    return [(lambda value: value not in numbers, "enum.defined_only", text)]


def _limits(
    field: FieldDescriptor, rules: validate_pb2.FieldRules, kind: str, known: Iterable[str]
) -> Limits:
    """The rules of a kind as set on a field, all of them known."""
    case = rules.WhichOneof("type")
    if case is None:
        return {}
    if case != kind:
        raise UnsupportedRule(f"{field.full_name}: {case} rules do not fit its type")
    typed = getattr(rules, case)
    _refuse_others(field.full_name, typed, known)
    return {rule.name: value for rule, value in typed.ListFields()}


def _refuse_others(where: str, rules: Message, known: Iterable[str]) -> None:
    for rule, _ in rules.ListFields():
        if rule.is_extension or rule.name not in known:
            raise UnsupportedRule(f"{where}: {rule.full_name}")
    if len(UnknownFieldSet(rules)):
        raise UnsupportedRule(f"{where}: a rule newer than buf/validate/validate.proto here")
