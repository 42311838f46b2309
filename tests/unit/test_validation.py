"""The compiled checks against the protovalidate library, at, below and above every limit."""

import itertools
import random
import string
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import protovalidate
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buf.validate import validate_pb2
from millrace.validation import ITEMS_REPORTED_MAX, UnsupportedRule, compile_rules, compile_service
from social.v1 import (
    activity_pb2,
    comments_pb2,
    feed_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    users_pb2,
)

NOUNS = (users_pb2, media_pb2, follows_pb2, likes_pb2, comments_pb2, feed_pb2, activity_pb2)
REQUESTS: list[Descriptor] = [
    method.input_type
    for noun in NOUNS
    for service in noun.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
CHECKS = {request.name: compile_rules(request) for request in REQUESTS}
A_UUID = "6f1f2c1e-6d1e-4b7a-9a3e-0d6a3c1f9b52"

# For each kind of field, values around all limits that the protos set for this kind.
TEXTS = st.one_of(
    st.sampled_from(
        [0, 1, 2, 3, 7, 8, 30, 31, 64, 65, 128, 129, 300, 301, 512, 513, 1000, 1001]
    ).flatmap(lambda length: st.sampled_from(["a" * length, "é" * length, "😀" * length])),
    st.sampled_from(["a" * 2200, "a" * 2201, A_UUID, A_UUID.upper(), A_UUID + "\n", A_UUID[:-1]]),
    st.sampled_from(["ana.b_9", "Ana", "ana ", "ana\n", "an a", "añna", "\u202eana", "a\u0301na"]),
    st.text(string.ascii_letters + string.digits + "_.-\n", max_size=32),
)
INTS = st.sampled_from([-(2**31), -1, 0, 1, 30, 99, 100, 101, 2**31 - 1])
LONGS = INTS | st.sampled_from([-(2**63), 2**63 - 1])
BYTES = st.sampled_from([0, 1, 1024]).map(bytes)
LENGTHS = st.sampled_from([0, 1, 2, 100, 101])


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type)
    by_type: dict[int, st.SearchStrategy[Any]] = {
        FieldDescriptor.TYPE_STRING: TEXTS,
        FieldDescriptor.TYPE_INT32: INTS,
        FieldDescriptor.TYPE_INT64: LONGS,
        FieldDescriptor.TYPE_BYTES: BYTES,
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_ENUM: st.integers(-1, 9),
    }
    return by_type[field.type]


def lists(field: FieldDescriptor) -> st.SearchStrategy[list[Any]]:
    """Few different values, many times: only the length and one odd item matter."""
    return st.tuples(values(field), values(field), LENGTHS).map(
        lambda drawn: [drawn[0]] * (drawn[2] - 1) + [drawn[1]] * min(drawn[2], 1)
    )


@st.composite
def messages(draw: Callable[..., Any], descriptor: Descriptor) -> Message:
    """Each field is left out, or has a value near a limit; of a oneof at most one is set."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if draw(st.integers(0, 4)) == 0:
            continue
        if field.is_repeated:
            getattr(message, field.name).extend(draw(lists(field)))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(draw(values(field)))
        else:
            setattr(message, field.name, draw(values(field)))
    return message


def ours(message: Message) -> list[tuple[str, str]]:
    found = CHECKS[message.DESCRIPTOR.name](message)
    return sorted((violation.field, violation.rule) for violation in found)


def oracle(message: Message) -> list[tuple[str, str]]:
    """What the library finds, less the items that we do not report."""
    found = protovalidate.collect_violations(message)
    named = [(path(each.proto.field), each.proto.rule_id) for each in found]
    wrong_length = {field for field, rule in named if rule.startswith("repeated.")}
    reported: dict[str, set[str]] = {}
    kept = []
    for field, rule in named:
        of_list, bracket, rest = field.partition("[")
        if bracket:
            indices, index = reported.setdefault(of_list, set()), rest.partition("]")[0]
            if of_list in wrong_length or (len(indices | {index}) > ITEMS_REPORTED_MAX):
                continue
            indices.add(index)
        kept.append((field, rule))
    return sorted(kept)


def path(field: validate_pb2.FieldPath) -> str:
    def parts() -> Iterator[str]:
        for element in field.elements:
            yield "." + element.field_name
            if element.HasField("index"):
                yield f"[{element.index}]"

    return "".join(parts()).removeprefix(".")


@pytest.mark.parametrize("request_type", REQUESTS, ids=lambda descriptor: descriptor.name)
def test_random_requests_are_judged_as_the_library_does(request_type: Descriptor) -> None:
    @settings(
        max_examples=12,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(messages(request_type))
    def same(message: Message) -> None:
        assert ours(message) == oracle(message)

    same()


REGISTER = {"request_id": A_UUID, "handle": "ana", "password": "x" * 8}
EDGES: list[tuple[type[Message], dict[str, Any], str, Any, bool]] = [
    (users_pb2.RegisterRequest, REGISTER, "handle", "abc", True),
    (users_pb2.RegisterRequest, REGISTER, "handle", "ab", False),
    (users_pb2.RegisterRequest, REGISTER, "handle", "a" * 30, True),
    (users_pb2.RegisterRequest, REGISTER, "handle", "a" * 31, False),
    (users_pb2.RegisterRequest, REGISTER, "handle", "ana\n", False),
    (users_pb2.RegisterRequest, REGISTER, "handle", "anä", False),
    (users_pb2.RegisterRequest, REGISTER, "password", "😀" * 7, False),
    (users_pb2.RegisterRequest, REGISTER, "password", "😀" * 128, True),
    (users_pb2.RegisterRequest, REGISTER, "password", "x" * 129, False),
    (users_pb2.RegisterRequest, REGISTER, "display_name", "é" * 64, True),
    (users_pb2.RegisterRequest, REGISTER, "display_name", "é" * 65, False),
    (users_pb2.RegisterRequest, REGISTER, "request_id", "", False),
    (users_pb2.RegisterRequest, REGISTER, "request_id", A_UUID.upper(), True),
    (users_pb2.RegisterRequest, REGISTER, "request_id", A_UUID + "\n", False),
    (users_pb2.UpdateProfileRequest, {"request_id": A_UUID}, "bio", "b" * 300, True),
    (users_pb2.UpdateProfileRequest, {"request_id": A_UUID}, "bio", "b" * 301, False),
    (users_pb2.GetUsersRequest, {}, "user_ids", [1] * 100, True),
    (users_pb2.GetUsersRequest, {}, "user_ids", [1] * 101, False),
    (users_pb2.GetUsersRequest, {}, "user_ids", [1, 0], False),
    (users_pb2.GetUsersRequest, {}, "user_ids", [], False),
    (users_pb2.GetUsersRequest, {"user_ids": [1]}, "handles", ["ana"], False),
    (users_pb2.GetUsersRequest, {}, "handles", ["ana", "b"], False),
    (media_pb2.UploadMediaRequest, {}, "chunk", bytes(2**20), True),
    (media_pb2.UploadMediaRequest, {}, "chunk", bytes(2**20 + 1), False),
    (media_pb2.UploadMediaRequest, {}, "chunk", b"", False),
    (media_pb2.DownloadMediaRequest, {"media_id": 1}, "rendition", 4, True),
    (media_pb2.DownloadMediaRequest, {"media_id": 1}, "rendition", 5, False),
    (media_pb2.GetMediaRequest, {}, "media_ids", [], False),
    (media_pb2.GetMediaRequest, {}, "media_ids", [2**63 - 1] * 100, True),
    (follows_pb2.FollowRequest, {"request_id": A_UUID}, "user_id", 0, False),
    (follows_pb2.FollowRequest, {"request_id": A_UUID}, "user_id", -1, False),
    (feed_pb2.GetFeedRequest, {}, "page_size", 100, True),
    (feed_pb2.GetFeedRequest, {}, "page_size", 101, False),
    (feed_pb2.GetFeedRequest, {}, "page_size", -1, False),
    (feed_pb2.GetFeedRequest, {}, "page_token", "t" * 512, True),
    (feed_pb2.GetFeedRequest, {}, "page_token", "t" * 513, False),
]


@pytest.mark.parametrize(("request_type", "others", "field", "value", "allowed"), EDGES)
def test_values_at_a_limit(
    request_type: type[Message], others: dict[str, Any], field: str, value: Any, allowed: bool
) -> None:
    message = request_type(**(others | {field: value}))
    assert (ours(message) == []) is allowed
    if len(message.SerializeToString()) < 10_000:  # the library takes seconds for a large chunk
        assert ours(message) == oracle(message)


def test_violations_name_the_path_through_lists_and_messages() -> None:
    header = media_pb2.UploadMediaHeader(request_id="x", size_bytes=-1)
    assert ours(media_pb2.UploadMediaRequest(header=header)) == [
        ("header.request_id", "string.uuid"),
        ("header.size_bytes", "int64.gte"),
    ]
    likes = [likes_pb2.RecordedLike(sequence=1, media_id=1), likes_pb2.RecordedLike(sequence=2)]
    assert ours(likes_pb2.RecordLikesRequest(request_id=A_UUID, likes=likes)) == [
        ("likes[1].media_id", "int64.gt")
    ]
    assert ours(users_pb2.GetUsersRequest(user_ids=[1, 0])) == [("user_ids[1]", "int64.gt")]
    assert ours(users_pb2.GetUsersRequest()) == [("", "message.oneof")]
    assert ours(media_pb2.UploadMediaRequest()) == [("part", "required")]


def test_a_hostile_list_costs_no_more_than_a_short_one() -> None:
    zeros = media_pb2.GetMediaRequest(media_ids=[0] * 1_000_000)
    assert ours(zeros) == [("media_ids", "repeated.max_items")]
    zeros = media_pb2.GetMediaRequest(media_ids=[0] * 100)
    assert len(ours(zeros)) == ITEMS_REPORTED_MAX


def test_of_fields_that_exclude_each_other_an_empty_one_breaks_no_rule() -> None:
    file = descriptor_pb2.FileDescriptorProto(
        name="exclude.proto",
        package="exclude",
        syntax="proto3",
        dependency=["buf/validate/validate.proto"],
    )
    request = file.message_type.add(name="Request")
    either = validate_pb2.MessageOneofRule(fields=["a", "b"])
    request.options.Extensions[validate_pb2.message].oneof.append(either)
    for number, name in enumerate(either.fields, 1):
        field = request.field.add(name=name, number=number, type=FieldProto.TYPE_STRING)
        field.label = FieldProto.LABEL_OPTIONAL
        field.options.Extensions[validate_pb2.field].string.min_len = 2
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName("exclude.Request")
    check = compile_rules(descriptor)
    for values_set in ({}, {"a": "ab"}, {"a": "a"}, {"b": "ab"}, {"a": "ab", "b": "b"}):
        message = message_factory.GetMessageClass(descriptor)(**values_set)
        assert sorted((each.field, each.rule) for each in check(message)) == oracle(message)


def test_no_string_holds_a_zero_byte() -> None:
    caption = media_pb2.UploadMediaHeader(request_id=A_UUID, caption="a\0b")
    assert ours(media_pb2.UploadMediaRequest(header=caption)) == [
        ("header.caption", "string.no_nul")
    ]
    handles = users_pb2.GetUsersRequest(handles=["ana", "b\0en"])
    assert ("handles[1]", "string.no_nul") in ours(handles)


def test_every_string_of_every_request_refuses_a_zero_byte() -> None:
    for request_type in REQUESTS:
        for name in (field.name for field in request_type.fields if is_single_string(field)):
            message = message_factory.GetMessageClass(request_type)(**{name: "\0"})
            assert name in {field for field, _ in ours(message)}, request_type.name


def is_single_string(field: FieldDescriptor) -> bool:
    return field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated


def test_protobuf_itself_refuses_lone_surrogates() -> None:
    with pytest.raises((ValueError, UnicodeEncodeError)):
        users_pb2.RegisterRequest(display_name="\ud800")
    # As bytes: field 4, three bytes, U+D800 in the form that UTF-8 forbids.
    with pytest.raises(Exception, match=r"UTF-8|parsing"):
        users_pb2.RegisterRequest.FromString(b"\x22\x03\xed\xa0\x80")


def test_random_uuids_pass() -> None:
    seeded = random.Random(7)
    for _ in range(1000):
        request_id = str(uuid.UUID(int=seeded.getrandbits(128)))
        assert ours(users_pb2.DeactivateUserRequest(request_id=request_id)) == []


def test_a_service_gives_one_check_a_method() -> None:
    checks = compile_service(users_pb2.DESCRIPTOR.services_by_name["UsersService"])
    assert len(checks) == 10
    (violation,) = checks["/social.v1.UsersService/DeactivateUser"](
        users_pb2.DeactivateUserRequest(request_id="7")
    )
    assert (violation.field, violation.rule) == ("request_id", "string.uuid")
    assert violation.description == "must be a valid UUID"


FieldProto = descriptor_pb2.FieldDescriptorProto


NUMBERS = itertools.count()


def with_rule(kind: FieldProto.Type.ValueType, rules: validate_pb2.FieldRules) -> Descriptor:
    """A message class of one field with the given rules."""
    number = next(NUMBERS)
    file = descriptor_pb2.FileDescriptorProto(
        name=f"one_rule{number}.proto",
        package=f"one_rule{number}",
        syntax="proto3",
        dependency=["buf/validate/validate.proto"],
    )
    field = file.message_type.add(name="Request").field.add(
        name="field", number=1, type=kind, label=FieldProto.LABEL_OPTIONAL
    )
    field.options.Extensions[validate_pb2.field].CopyFrom(rules)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindMessageTypeByName(f"{file.package}.Request")


Rules = validate_pb2.FieldRules
UNSUPPORTED = [
    (FieldProto.TYPE_STRING, Rules(string=validate_pb2.StringRules(email=True))),
    (FieldProto.TYPE_STRING, Rules(string=validate_pb2.StringRules(prefix="a"))),
    (FieldProto.TYPE_STRING, Rules(string=validate_pb2.StringRules(pattern="a+"))),
    (FieldProto.TYPE_STRING, Rules(string=validate_pb2.StringRules(pattern=r"^\d$"))),
    (FieldProto.TYPE_STRING, Rules(string=validate_pb2.StringRules(pattern="^a|b$"))),
    (FieldProto.TYPE_STRING, Rules(string=validate_pb2.StringRules(uuid=True, max_len=9))),
    (FieldProto.TYPE_STRING, Rules(int64=validate_pb2.Int64Rules(gt=0))),
    (FieldProto.TYPE_STRING, Rules(cel=[validate_pb2.Rule(id="a", expression="true")])),
    (FieldProto.TYPE_STRING, Rules(cel_expression=["this != ''"])),
    (FieldProto.TYPE_STRING, Rules(ignore=validate_pb2.IGNORE_ALWAYS)),
    (FieldProto.TYPE_INT64, Rules(int64=validate_pb2.Int64Rules(gt=5, lt=5))),
    (FieldProto.TYPE_INT64, Rules(int64=validate_pb2.Int64Rules(const=5))),
    (FieldProto.TYPE_DOUBLE, Rules(double=validate_pb2.DoubleRules(finite=True))),
    (FieldProto.TYPE_BOOL, Rules(bool=validate_pb2.BoolRules(const=True))),
    (FieldProto.TYPE_BYTES, Rules(bytes=validate_pb2.BytesRules(ip=True))),
    # A rule that this version of validate.proto does not know: field 900 of StringRules.
    (FieldProto.TYPE_STRING, Rules.FromString(b"\x72\x03\xa0\x38\x01")),
]


@pytest.mark.parametrize(("kind", "rules"), UNSUPPORTED)
def test_an_unknown_rule_stops_the_start(kind: FieldProto.Type.ValueType, rules: Rules) -> None:
    with pytest.raises(UnsupportedRule):
        compile_rules(with_rule(kind, rules))


# `in` is a word of Python, so this rule is no keyword argument.
a_or_b = validate_pb2.StringRules()
getattr(a_or_b, "in").extend(["a", "b"])
one_or_two = validate_pb2.Int32Rules()
getattr(one_or_two, "in").extend([1, 2])
SUPPORTED = [
    (FieldProto.TYPE_STRING, Rules(string=validate_pb2.StringRules()), ["", "a"]),
    (FieldProto.TYPE_STRING, Rules(required=True), ["", "a"]),
    (
        FieldProto.TYPE_STRING,
        Rules(
            ignore=validate_pb2.IGNORE_IF_ZERO_VALUE,
            string=validate_pb2.StringRules(min_len=2),
        ),
        ["", "a", "ab"],
    ),
    (
        FieldProto.TYPE_STRING,
        Rules(string=a_or_b),
        ["", "a", "c"],
    ),
    (FieldProto.TYPE_INT64, Rules(int64=validate_pb2.Int64Rules(gt=3, lt=5)), [3, 4, 5]),
    (FieldProto.TYPE_INT64, Rules(int64=validate_pb2.Int64Rules(gte=3, lt=5)), [2, 3, 5]),
    (FieldProto.TYPE_UINT64, Rules(uint64=validate_pb2.UInt64Rules(lte=3)), [2, 3, 4]),
    (FieldProto.TYPE_INT32, Rules(int32=one_or_two), [0, 1]),
    (FieldProto.TYPE_BYTES, Rules(bytes=validate_pb2.BytesRules(len=2)), [b"", b"ab"]),
]


@pytest.mark.parametrize(("kind", "rules", "tried"), SUPPORTED)
def test_a_rule_not_used_yet_is_judged_as_the_library_does(
    kind: FieldProto.Type.ValueType, rules: Rules, tried: list[Any]
) -> None:
    descriptor = with_rule(kind, rules)
    check = compile_rules(descriptor)
    for value in tried:
        message = message_factory.GetMessageClass(descriptor)(field=value)
        found = [(violation.field, violation.rule) for violation in check(message)]
        assert found == oracle(message), value
