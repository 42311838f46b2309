"""Who follows whom.

After OutcomeUnknown the edge may be either way: the write may have been done, and while a server
process still tries to reach the log it may be done later, even after a later write on this edge.
Say again what shall hold, and read it.
"""

from millrace.client.calls import Calls, new_request_id
from millrace.client.pages import Page, Pages
from millrace.client.session import Session
from social.v1 import follows_pb2 as pb
from social.v1.users_pb2 import UserSummary


class Follows(Calls):
    async def follow(self, session: Session, user_id: int) -> pb.FollowState.ValueType:
        request = pb.FollowRequest(request_id=new_request_id(), user_id=user_id)
        answer = await self.call(
            lambda stubs: stubs.follows.Follow, request, session, edge=("follow", user_id)
        )
        return answer.state

    async def unfollow(self, session: Session, user_id: int) -> None:
        request = pb.UnfollowRequest(request_id=new_request_id(), user_id=user_id)
        await self.call(
            lambda stubs: stubs.follows.Unfollow, request, session, edge=("follow", user_id)
        )

    def followers(
        self, session: Session, user_id: int, *, page_size: int = 0
    ) -> Pages[UserSummary]:
        async def read(page_token: str) -> Page[UserSummary]:
            request = pb.ListFollowersRequest(
                user_id=user_id, page_size=page_size, page_token=page_token
            )
            page = await self.call(lambda stubs: stubs.follows.ListFollowers, request, session)
            return Page(page.users, page.next_page_token, page.stale)

        return Pages(read)

    def following(
        self, session: Session, user_id: int, *, page_size: int = 0
    ) -> Pages[UserSummary]:
        async def read(page_token: str) -> Page[UserSummary]:
            request = pb.ListFollowingRequest(
                user_id=user_id, page_size=page_size, page_token=page_token
            )
            page = await self.call(lambda stubs: stubs.follows.ListFollowing, request, session)
            return Page(page.users, page.next_page_token, page.stale)

        return Pages(read)
