"""Who may log in, whose sessions stand, who has which handle: the RPCs of accounts.

Tokens are the server's: they are learnt from its answers (`seen`). A refresh token that was
exchanged last is good for `refresh_grace_s`; the model takes that to be for ever.
"""

from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from millrace.oracle.refused import Refused, refuse_if, require
from millrace.oracle.state import Oracle
from social.log.v1 import names_pb2
from social.log.v1 import users_pb2 as log
from social.v1 import users_pb2 as pb

_ENDED = "UNAUTHENTICATED SESSION_ENDED"


@dataclass(eq=False, slots=True)
class Session:
    """`refresh_tokens`: in the order of the exchanges; the last one is good. `all_ended`: all
    sessions of the user have ended since this one began.
    """

    user_id: int
    ended: bool = False
    all_ended: bool = False
    refresh_tokens: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Claim:
    """The request that a name was claimed by."""

    request_id: str
    body: bytes


def name_key(handle: str) -> bytes:
    return handle.lower().encode()


@dataclass(slots=True)
class Accounts:
    """`state`: what is public. Here is what is secret: passwords, sessions, requests."""

    state: Oracle = field(default_factory=Oracle)
    passwords: dict[int, str] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    _by_refresh_token: dict[str, Session] = field(default_factory=dict)
    _claims: dict[bytes, _Claim] = field(default_factory=dict)
    _number: int = 0

    def write(self, event: Message, text: Message | None = None) -> int:
        """What the log must hold after this. Its number is the model's own."""
        self._number += 1
        opened = text.SerializeToString() if text is not None else b""
        self.state.apply(event, number=self._number, text=opened)
        return self._number

    def session(self, bearer: str, *, method: str) -> Session:
        """Whose call it is. Raises Refused."""
        session = self.sessions.get(bearer)
        refuse_if({"UNAUTHENTICATED TOKEN_MISSING": not bearer})
        if session is None:
            raise Refused("UNAUTHENTICATED TOKEN_INVALID")
        refuse_if({_ENDED: session.ended and method != "LogOut"})
        hidden = not self.state.stands(session.user_id)
        closed = hidden and method not in ("LogOut", "ReactivateUser")
        refuse_if({"FAILED_PRECONDITION USER_DEACTIVATED": closed})
        return session

    def register(self, request: pb.RegisterRequest, seen: Any) -> Message:
        key = name_key(request.handle)
        wanted = _Claim(request.request_id, request.SerializeToString(deterministic=True))
        if name := self.state.names.get(key):
            claim, user_id = self._claims[key], name.user_id
            refuse_if(
                {
                    "ALREADY_EXISTS HANDLE_TAKEN": claim.request_id != wanted.request_id
                    or (claim == wanted and self.passwords[user_id] != request.password),
                    "ALREADY_EXISTS REQUEST_ID_REUSED": claim.request_id == wanted.request_id
                    and claim != wanted,
                }
            )
        else:
            user_id = self._registered(request, key, seen.user_id)
            self._claims[key] = wanted
        return self._opened(Session(user_id), pb.RegisterResponse(user_id=user_id), seen)

    def log_in(self, request: pb.LogInRequest, seen: Any) -> Message:
        user_id = self.state.holder(name_key(request.handle))
        if user_id is None or self.passwords[user_id] != request.password:
            raise Refused("UNAUTHENTICATED CREDENTIALS_INVALID")
        hidden = not self.state.stands(user_id)
        answer = pb.LogInResponse(user_id=user_id, deactivated=hidden)
        return self._opened(Session(user_id), answer, seen)

    def refresh_token(self, request: pb.RefreshTokenRequest, seen: Any) -> Message:
        shown = request.refresh_token
        session = self._by_refresh_token.get(shown)
        if session is None:
            raise Refused("UNAUTHENTICATED REFRESH_TOKEN_INVALID")
        refuse_if({_ENDED: session.ended})
        tokens = session.refresh_tokens
        if shown not in tokens[-2:]:
            session.ended = True
            raise Refused("UNAUTHENTICATED REFRESH_TOKEN_REUSED")
        answer = pb.RefreshTokenResponse(user_id=session.user_id)
        again = tokens[-1] if shown != tokens[-1] else ""
        return self._opened(session, answer, seen, again)

    def log_out(self, session: Session, request: pb.LogOutRequest) -> Message:
        # A token whose session has ended may ask again for what holds already, and for no more.
        alone = session.ended and not session.all_ended
        refuse_if({_ENDED: request.all_sessions and alone})
        if request.all_sessions and not session.ended:
            self._end_all(session.user_id)
        session.ended = True
        return pb.LogOutResponse()

    def change_password(
        self, user_id: int, request: pb.ChangePasswordRequest, seen: Any
    ) -> Message:
        # A retry finds its own new password: then the old one was right.
        if self.passwords[user_id] not in (request.old_password, request.new_password):
            raise Refused("PERMISSION_DENIED OLD_PASSWORD_WRONG")
        self.passwords[user_id] = request.new_password
        self._end_all(user_id)
        return self._opened(Session(user_id), pb.ChangePasswordResponse(), seen)

    def change_handle(self, user_id: int, request: pb.ChangeHandleRequest) -> Message:
        key, user = name_key(request.handle), self.state.users[user_id]
        name = self.state.names.get(key)
        refuse_if({"ALREADY_EXISTS HANDLE_TAKEN": name is not None and name.user_id != user_id})
        wanted = _Claim(request.request_id, request.SerializeToString(deterministic=True))
        claim = self._claims.get(key) if name else None
        reused = claim is not None and claim.request_id == wanted.request_id and claim != wanted
        refuse_if({"ALREADY_EXISTS REQUEST_ID_REUSED": reused})
        old_key, old_claim = user.name_key, user.claim_number
        changed = log.HandleChanged(
            user_id=user_id, name_key=key, claim_number=old_claim,
            frees_name_key=old_key, frees_claim_number=old_claim,
        )  # fmt: skip
        text = log.HandleText(handle=request.handle)
        if name is not None:
            self.write(changed, text)
            return pb.ChangeHandleResponse()
        claimed = names_pb2.NameClaimed(
            name_key=key, user_id=user_id, frees_name_key=old_key, frees_claim_number=old_claim
        )
        changed.claim_number = self.write(claimed)
        self.write(changed, text)
        freed = names_pb2.NameFreed(name_key=old_key, user_id=user_id, claim_number=old_claim)
        self.write(freed)
        self._claims[key] = wanted
        return pb.ChangeHandleResponse()

    def deactivate_user(self, user_id: int) -> Message:
        self.write(log.UserDeactivated(user_id=user_id))
        self._end_all(user_id)
        return pb.DeactivateUserResponse()

    def reactivate_user(self, user_id: int) -> Message:
        self.write(log.UserReactivated(user_id=user_id))
        return pb.ReactivateUserResponse()

    def update_profile(self, user_id: int, request: pb.UpdateProfileRequest) -> Message:
        refuse_if({"UNIMPLEMENTED UNIMPLEMENTED": request.private})
        text = log.ProfileText(display_name=request.display_name, bio=request.bio)
        self.write(log.ProfileUpdated(user_id=user_id), text)
        return pb.UpdateProfileResponse()

    def _registered(self, request: pb.RegisterRequest, key: bytes, user_id: int) -> int:
        """A new user, with the id that the server gave him: one that nobody ever had."""
        fresh = user_id > 0 and user_id not in self.state.users
        require(fresh, f"user id {user_id} was given out twice, or is none")
        claim = self.write(names_pb2.NameClaimed(name_key=key, user_id=user_id))
        registered = log.UserRegistered(user_id=user_id, name_key=key, claim_number=claim)
        text = log.RegistrationText(handle=request.handle, display_name=request.display_name)
        self.write(registered, text)
        self.passwords[user_id] = request.password
        return user_id

    def _end_all(self, user_id: int) -> None:
        for session in self.sessions.values():
            if session.user_id == user_id:
                session.ended = session.all_ended = True

    def _opened(self, session: Session, answer: Any, seen: Any, again: str = "") -> Message:
        """The answer with the tokens that were seen. `again`: a refresh token that must come."""
        refresh = again or seen.refresh_token
        fresh = bool(again) or refresh not in self._by_refresh_token
        require(fresh, "a refresh token came twice")
        require(bool(seen.access_token) and seen.expires_in_s > 0, "an empty access token")
        if not again:
            session.refresh_tokens.append(refresh)
        self._by_refresh_token[refresh] = self.sessions[seen.access_token] = session
        answer.access_token, answer.refresh_token = seen.access_token, refresh
        answer.expires_in_s = seen.expires_in_s
        return answer  # type: ignore[no-any-return]
