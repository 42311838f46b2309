"""What a server said beside what the model says, and one model beside another."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import protovalidate
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from millrace.oracle import Oracle

# (kind, id) -> when it was made, in ms.
Created = Mapping[tuple[str, int], int]
# Times are looked at beside the comparison, the others are no promise about content; a feed is
# asked for with `require_complete`.
_LEFT_OUT = ("created_at", "stale", "pending", "receipt", "reason")


def bare(message: Any) -> Message:
    """Without what the model does not know."""
    left: Message = type(message)()
    left.CopyFrom(message)
    for one in _each(left):
        for name in _LEFT_OUT:
            if name in one.DESCRIPTOR.fields_by_name:
                one.ClearField(name)
    return left


def _each(message: Message) -> Iterator[Message]:
    """The message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for one in value if field.is_repeated else (value,):
                yield from _each(one)


def times(message: Message) -> Iterator[tuple[tuple[str, int], int]]:
    """((kind, id), when it was made in ms) of all that is shown."""
    for one in _each(message):
        if "created_at" in one.DESCRIPTOR.fields_by_name:
            made: Any = one
            yield (one.DESCRIPTOR.name, made.id), made.created_at.ToMilliseconds()


def check_broken(requests: Sequence[Message]) -> None:
    """That a field breaks its rule is the library's word, not the generator's."""
    if "\0" in str(requests) or "\\000" in str(requests):
        return
    try:
        protovalidate.validate(requests[0])
    except protovalidate.ValidationError:
        return
    raise AssertionError(f"no rule is broken: {requests[0]}")


def whole(models: Sequence[Oracle]) -> Oracle:
    """All as one: none knows anything of another's."""
    found = Oracle()
    for model in models:
        for name in (field.name for field in fields(found)):
            held, more = getattr(found, name), getattr(model, name)
            assert not held.keys() & more.keys()
            held.update(more)
    return found


def differences(one: Oracle, other: Oracle) -> list[str]:
    """What two models do not agree on."""
    left, right = _facts(one), _facts(other)
    return [
        f"{name} {key}: {left[name].get(key)} / {right[name].get(key)}"
        for name in left
        for key in left[name].keys() | right[name].keys()
        if left[name].get(key) != right[name].get(key)
    ]


def wrong_times(created: Created, log: Oracle) -> list[tuple[str, int]]:
    """Of all that was shown, what was not made when the log says."""
    held: dict[str, dict[int, Any]] = {
        "User": log.users, "MediaItem": log.media, "Comment": log.comments,
    }  # fmt: skip
    return [(kind, id_) for (kind, id_), at_ms in created.items() if held[kind][id_].at_ms != at_ms]


def _facts(oracle: Oracle) -> dict[str, dict[Any, Any]]:
    return {
        "user": {
            one: (oracle.handle(one), user.display_name, user.bio, user.deactivated)
            for one, user in oracle.users.items()
        },
        "names held by": dict(Counter(name.user_id for name in oracle.names.values())),
        "media": dict(oracle.media.items()),
        "comment": dict(oracle.comments.items()),
        "upload": dict(oracle.uploads.items()),
        "remark": dict(oracle.remarks.items()),
        **{
            name: {one: sorted(others) for one, others in edges.items() if others}
            for name, edges in (
                ("following", oracle.following), ("followers", oracle.followers),
                ("likers", oracle.likers), ("media of", oracle.media_of),
                ("comments of", oracle.comments_of),
            )
        },
    }  # fmt: skip
