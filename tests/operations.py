"""Random calls of the whole contract, by a seed.

operations = Operations(random.Random(7), answers, lane=0)
operation = operations.next()
"""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from millrace.oracle import Answers
from tests.random_fields import BROKEN
from tests.random_requests import RARELY, USERS_MAX, Requests

ACTIVE_MIN = 4
OFTEN = 0.1
# A retry that overtakes its call: what is asked for twice at once happens once. Not those of which
# the second may find its session ended, and reads.
TWICE = {
    "Register", "LogIn", "RefreshToken", "LogOut", "UpdateProfile", "ChangeHandle",
    "ReactivateUser", "UploadMedia", "EditCaption", "DeleteMedia", "Follow", "Unfollow",
    "LikeMedia", "UnlikeMedia", "RecordLikes", "AddComment", "DeleteComment", "SaveMedia",
    "UnsaveMedia",
}  # fmt: skip

# Answered when everybody's reads see it, but for a `pending`.
APPLIED = {
    "Register", "LogIn", "LogOut", "ChangePassword", "ChangeHandle", "DeactivateUser",
    "ReactivateUser", "UploadMedia", "DeleteMedia", "AddComment", "DeleteComment",
}  # fmt: skip
# After these the caller's session has ended.
ENDING = ("ChangePassword", "DeactivateUser")

# How often each RPC is called, of all. Those that end sessions are rare, so that most stand.
WEIGHTS = {
    "Register": 25, "LogIn": 40, "RefreshToken": 40, "LogOut": 16, "ChangePassword": 14,
    "GetUsers": 60, "UpdateProfile": 35, "ChangeHandle": 30, "DeactivateUser": 10,
    "ReactivateUser": 25, "UploadMedia": 60, "GetMedia": 60, "ListUserMedia": 40,
    "DownloadMedia": 25, "EditCaption": 35, "DeleteMedia": 25, "Follow": 60, "Unfollow": 22,
    "ListFollowers": 35, "ListFollowing": 35, "LikeMedia": 60, "UnlikeMedia": 30,
    "ListLikers": 40, "RecordLikes": 20, "AddComment": 55, "DeleteComment": 35,
    "ListComments": 45, "SaveMedia": 30, "UnsaveMedia": 15, "ListSaved": 25, "GetFeed": 60,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """`walk`: go on to the list's end. `broken`: a field breaks its rule. `twice`: two calls at
    once.
    """

    method: str
    bearer: str
    requests: tuple[Any, ...]
    walk: bool = False
    broken: bool = False
    twice: bool = False

    def __str__(self) -> str:
        told = " | ".join(" ".join(str(one).split())[:160] for one in self.requests[:3])
        marks = "".join(f" {mark}" for mark in ("walk", "broken", "twice") if getattr(self, mark))
        return f"{self.method}(…{self.bearer[-6:]}) {told}{marks}"


class Operations:
    def __init__(self, rng: Random, answers: Answers, *, lane: int = 0) -> None:
        self._rng = rng
        self._answers = answers
        self.requests = Requests(rng, answers, lane=lane)

    def next(self) -> Operation:
        rng = self._rng
        method = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if len(self.active()) < ACTIVE_MIN and method != "ReactivateUser":
            few = len(self.requests.users()) < USERS_MAX // 2
            method = "Register" if few else "LogIn"
        draw: Callable[[], Any] = getattr(self.requests, snake(method))
        drawn = draw()
        # A copy, since a request that is made again later stays as it was.
        requests = tuple(map(deepcopy, drawn if isinstance(drawn, list) else [drawn]))
        broken = rng.random() < RARELY and bool(self.active()) and self._break(requests[0])
        bearer = self._bearer(method, requests[0], broken=broken)
        walk = hasattr(requests[0], "page_token") and not broken and rng.random() < 0.4
        twice = method in TWICE and rng.random() < OFTEN and not self._is_old(requests[0])
        return Operation(method, bearer, requests, walk=walk, broken=broken, twice=twice)

    def _is_old(self, request: Any) -> bool:
        """A refresh token that ends its session: the second call may find that done or not."""
        sessions = self._answers.accounts.sessions.values()
        shown = getattr(request, "refresh_token", "")
        return any(shown in session.refresh_tokens[:-2] for session in sessions)

    def active(self) -> list[str]:
        """Access tokens that open everything."""
        state = self._answers.state
        return [
            bearer
            for bearer, session in self._answers.accounts.sessions.items()
            if not session.ended and state.stands(session.user_id)
        ]

    def _bearer(self, method: str, request: Any, *, broken: bool) -> str:
        rng, sessions, active = self._rng, self._answers.accounts.sessions, self.active()
        if broken or not sessions:
            return rng.choice(active) if active else ""
        chance = rng.random()
        if chance < RARELY / 2:
            return rng.choice(("", "garbled", rng.choice(list(sessions))[:-3] + "AAA"))
        open_to = set(active)
        closed = [one for one in sessions if one not in open_to][-30:]
        back = [one for one in closed if not sessions[one].ended]
        if back and method == "ReactivateUser" and chance < 0.8:
            return rng.choice(back)
        if closed and chance < {"LogOut": 0.3}.get(method, 0.06):
            return rng.choice(closed)
        owners = self._owners(method, request)
        owning = [one for one in active if sessions[one].user_id in owners]
        if owning and rng.random() < 0.7:
            return rng.choice(owning)
        return rng.choice(active or list(sessions))

    def _owners(self, method: str, request: Any) -> set[int]:
        """Whose it is, where it is somebody's."""
        state = self._answers.state
        owners = set()
        if method in ("AddComment", "UploadMedia"):
            # Whoever made the same request before.
            made = state.remarks if method == "AddComment" else state.uploads
            named = getattr(request, "header", request).request_id
            owners |= {author for author, one in made if named and one == UUID(named).bytes}
        if method in ("EditCaption", "DeleteMedia", "DeleteComment"):
            item = state.media.get(request.media_id)
            owners |= {item.author_id} if item else set()
        if method == "DeleteComment" and (comment := state.comments.get(request.comment_id)):
            owners.add(comment.author_id)
        if method in ("GetFeed", "ListSaved"):
            place = self._answers.pages.places.get(request.page_token)
            owners |= {place.owner_id} if place else set()
        return owners

    def _break(self, request: Any) -> bool:
        """Whether a field was found and broken."""
        message: Message = request
        if request.DESCRIPTOR.name == "UploadMediaRequest":
            message = request.header
        names = [one.name for one in message.DESCRIPTOR.fields if one.name in BROKEN]
        if not names or not message.ByteSize():
            return False
        name = self._rng.choice(names)
        value = self._rng.choice(BROKEN[name])
        if isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
        return True


def snake(method: str) -> str:
    return re.sub("(?<!^)(?=[A-Z])", "_", method).lower()
