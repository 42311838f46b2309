"""Accounts, sessions and profiles."""

from collections.abc import Sequence

from millrace.client.calls import Calls, new_request_id
from millrace.client.session import Session
from millrace.errors import OutcomeUnknown
from social.v1 import users_pb2 as pb

SESSION_ENDED = "SESSION_ENDED"


class Users(Calls):
    async def register(
        self, handle: str, password: str, display_name: str = "", *, request_id: str = ""
    ) -> Session:
        """A new account, logged in. AlreadyExists (HANDLE_TAKEN). After OutcomeUnknown the same
        `request_id` finds out, in another call or another process.
        """
        request = pb.RegisterRequest(
            request_id=request_id or new_request_id(),
            handle=handle,
            password=password,
            display_name=display_name,
        )
        session = Session()
        tokens = await self.call(lambda stubs: stubs.users.Register, request, session)
        session.user_id = tokens.user_id
        session.take_tokens(tokens)
        return session

    async def log_in(self, handle: str, password: str) -> Session:
        """A new session. Of a deactivated user its `deactivated` is set."""
        request = pb.LogInRequest(handle=handle, password=password)
        session = Session()
        tokens = await self.call(lambda stubs: stubs.users.LogIn, request, session)
        session.user_id, session.deactivated = tokens.user_id, tokens.deactivated
        session.take_tokens(tokens)
        return session

    async def log_out(self, session: Session, *, all_sessions: bool = False) -> bool:
        """Ends the session. True when it holds everywhere, False when it soon will. A retry that
        finds the session ended is the proof for this one, not for the others: then of all sessions
        OutcomeUnknown (SESSION_ENDED), and a new session can end them.
        """
        request = pb.LogOutRequest(request_id=new_request_id(), all_sessions=all_sessions)
        try:
            answer = await self.call(lambda stubs: stubs.users.LogOut, request, session)
        except OutcomeUnknown as unknown:
            if all_sessions or unknown.reason != SESSION_ENDED:
                raise
            return False
        return not answer.pending

    async def change_password(self, session: Session, old: str, new: str) -> bool:
        """Ends all sessions of the user but this one, which goes on with new tokens. True when it
        holds everywhere. OutcomeUnknown with reason SESSION_ENDED: it was done and its answer was
        lost, or somebody else ended the session: `log_in` tells which password holds.
        """
        request = pb.ChangePasswordRequest(
            request_id=new_request_id(), old_password=old, new_password=new
        )
        answer = await self.call(
            lambda stubs: stubs.users.ChangePassword, request, session, edge=("password", 0)
        )
        session.take_tokens(answer)
        return not answer.pending

    async def change_handle(self, session: Session, handle: str) -> None:
        """AlreadyExists (HANDLE_TAKEN)."""
        request = pb.ChangeHandleRequest(request_id=new_request_id(), handle=handle)
        await self.call(
            lambda stubs: stubs.users.ChangeHandle, request, session, edge=("handle", 0)
        )

    async def deactivate_user(self, session: Session) -> bool:
        """Hides the user and ends all his sessions, this one too. True when it holds everywhere.
        OutcomeUnknown with reason SESSION_ENDED: it was done and its answer was lost, or somebody
        else ended the session: `log_in` tells by `deactivated`.
        """
        request = pb.DeactivateUserRequest(request_id=new_request_id())
        answer = await self.call(lambda stubs: stubs.users.DeactivateUser, request, session)
        return not answer.pending

    async def reactivate_user(self, session: Session) -> None:
        """With a session of `log_in`, which is open to everything from then on."""
        request = pb.ReactivateUserRequest(request_id=new_request_id())
        await self.call(lambda stubs: stubs.users.ReactivateUser, request, session)
        session.deactivated = False

    async def get_users(
        self, session: Session, user_ids: Sequence[int] = (), *, handles: Sequence[str] = ()
    ) -> pb.GetUsersResponse:
        """By ids or by handles, at most 100; whom the viewer may not see is left out."""
        request = pb.GetUsersRequest(user_ids=user_ids, handles=handles)
        return await self.call(lambda stubs: stubs.users.GetUsers, request, session)

    async def update_profile(
        self, session: Session, *, display_name: str = "", bio: str = "", private: bool = False
    ) -> bool:
        """The profile as a whole: what is left out becomes empty. False: `private` soon holds."""
        request = pb.UpdateProfileRequest(
            request_id=new_request_id(), display_name=display_name, bio=bio, private=private
        )
        answer = await self.call(
            lambda stubs: stubs.users.UpdateProfile, request, session, edge=("profile", 0)
        )
        return not answer.pending
