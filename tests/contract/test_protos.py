"""The protos hold the whole contract: every RPC, a rule for every field, and the house's habits."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from buf.validate import validate_pb2
from social.v1 import (
    activity_pb2,
    comments_pb2,
    feed_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    saves_pb2,
    users_pb2,
)

PROTOS = Path(__file__).parents[2] / "protos"
NOUNS = (
    users_pb2, media_pb2, follows_pb2, likes_pb2, comments_pb2, saves_pb2, feed_pb2, activity_pb2,
)  # fmt: skip
METHODS: dict[str, MethodDescriptor] = {
    f"{service.name}/{method.name}": method
    for noun in NOUNS
    for service in noun.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

# Every RPC and its kind. `creates` and `sets` and `hides` are writes: an answer to the first says
# that the view has it, to the second that the log has it, to the third that all views have it or
# that it is pending.
CONTRACT = {
    "UsersService/Register": "creates",
    "UsersService/LogIn": "session",
    "UsersService/RefreshToken": "session",
    "UsersService/LogOut": "hides",
    "UsersService/ChangePassword": "hides",
    "UsersService/GetUsers": "reads",
    "UsersService/UpdateProfile": "hides",
    "UsersService/ChangeHandle": "creates",
    "UsersService/DeactivateUser": "hides",
    "UsersService/ReactivateUser": "sets",
    "MediaService/UploadMedia": "creates",
    "MediaService/GetMedia": "reads",
    "MediaService/ListUserMedia": "lists",
    "MediaService/DownloadMedia": "streams",
    "MediaService/EditCaption": "sets",
    "MediaService/DeleteMedia": "hides",
    "FollowsService/Follow": "sets",
    "FollowsService/Unfollow": "sets",
    "FollowsService/RemoveFollower": "hides",
    "FollowsService/ListFollowers": "lists",
    "FollowsService/ListFollowing": "lists",
    "FollowsService/GetRelationships": "reads",
    "FollowsService/Block": "hides",
    "FollowsService/Unblock": "sets",
    "FollowsService/Mute": "sets",
    "FollowsService/Unmute": "sets",
    "FollowsService/ListFollowRequests": "lists",
    "FollowsService/AcceptFollow": "sets",
    "FollowsService/RejectFollow": "hides",
    "LikesService/LikeMedia": "sets",
    "LikesService/UnlikeMedia": "sets",
    "LikesService/ListLikers": "lists",
    "LikesService/RecordLikes": "sets",
    "CommentsService/AddComment": "creates",
    "CommentsService/DeleteComment": "hides",
    "CommentsService/ListComments": "lists",
    "SavesService/SaveMedia": "sets",
    "SavesService/UnsaveMedia": "sets",
    "SavesService/ListSaved": "lists",
    "FeedService/GetFeed": "lists",
    "FeedService/WatchFeed": "watches",
    "ActivityService/ListActivity": "lists",
    "ActivityService/GetUnreadCount": "reads",
    "ActivityService/MarkSeen": "sets",
    "ActivityService/WatchActivity": "watches",
}
# (requests are a stream, answers are a stream)
STREAMS = {
    "MediaService/UploadMedia": (True, False),
    "MediaService/DownloadMedia": (False, True),
    "LikesService/RecordLikes": (True, True),
    "FeedService/WatchFeed": (False, True),
    "ActivityService/WatchActivity": (False, True),
}
# Fields of requests without a rule, and why.
EXEMPT_TYPES = {FieldDescriptor.TYPE_BOOL: "both values are allowed"}


def of_kind(*kinds: str) -> list[str]:
    return [name for name, kind in CONTRACT.items() if kind in kinds]


def rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    return field.GetOptions().Extensions[validate_pb2.field]


def fields(message: Descriptor) -> Iterator[FieldDescriptor]:
    """The fields of a request and of the messages in it."""
    for field in message.fields:
        if field.message_type is not None:
            yield from fields(field.message_type)
        yield field


def test_every_rpc_of_the_contract_exists_and_no_other() -> None:
    assert sorted(METHODS) == sorted(CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_streams_are_where_the_contract_has_them(name: str) -> None:
    method = METHODS[name]
    assert (method.client_streaming, method.server_streaming) == STREAMS.get(name, (False, False))


@pytest.mark.parametrize("name", CONTRACT)
def test_every_field_of_a_request_has_a_rule_or_an_exemption(name: str) -> None:
    bare = [
        field.full_name
        for field in fields(METHODS[name].input_type)
        if not rules(field).ListFields()
        and field.message_type is None
        and field.type not in EXEMPT_TYPES
    ]
    assert bare == []


@pytest.mark.parametrize("name", of_kind("creates", "sets", "hides"))
def test_every_write_has_a_request_id(name: str) -> None:
    named = [each for each in fields(METHODS[name].input_type) if each.name == "request_id"]
    assert [rules(field).string.uuid for field in named] == [True]


@pytest.mark.parametrize("name", of_kind("reads", "lists", "streams", "watches", "session"))
def test_no_other_rpc_has_a_request_id(name: str) -> None:
    assert "request_id" not in {each.name for each in fields(METHODS[name].input_type)}


@pytest.mark.parametrize("name", of_kind("hides"))
def test_privacy_writes_may_be_pending(name: str) -> None:
    assert "pending" in METHODS[name].output_type.fields_by_name


@pytest.mark.parametrize("name", of_kind("lists"))
def test_lists_have_pages_of_at_most_100(name: str) -> None:
    request, response = METHODS[name].input_type, METHODS[name].output_type
    size = rules(request.fields_by_name["page_size"]).int32
    assert (size.gte, size.lte) == (0, 100)
    assert rules(request.fields_by_name["page_token"]).string.max_len == 512
    assert "next_page_token" in response.fields_by_name


@pytest.mark.parametrize("name", of_kind("lists", "reads"))
def test_reads_say_whether_they_are_stale(name: str) -> None:
    assert "stale" in METHODS[name].output_type.fields_by_name


@pytest.mark.parametrize("name", of_kind("watches"))
def test_watches_resume(name: str) -> None:
    assert "resume_token" in METHODS[name].input_type.fields_by_name
    assert "resume_token" in METHODS[name].output_type.fields_by_name


@pytest.mark.parametrize("name", CONTRACT)
def test_ids_are_positive_and_batches_bounded(name: str) -> None:
    for field in fields(METHODS[name].input_type):
        if field.is_repeated:
            assert 0 < rules(field).repeated.max_items <= 1000, field.full_name
        if field.name.endswith(("_id", "_ids")) and field.type == FieldDescriptor.TYPE_INT64:
            of_id = rules(field).repeated.items if field.is_repeated else rules(field)
            assert of_id.int64.HasField("gt"), field.full_name
            assert of_id.int64.gt == 0, field.full_name


def test_generated_code_is_what_the_protos_generate() -> None:
    command = [sys.executable, str(PROTOS / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
