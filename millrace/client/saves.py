"""What a session's user saves for himself. After OutcomeUnknown: as of likes."""

from millrace.client.calls import Calls, new_request_id
from millrace.client.pages import Page, Pages
from millrace.client.session import Session
from social.v1 import saves_pb2 as pb
from social.v1.media_pb2 import MediaItem


class Saves(Calls):
    async def save(self, session: Session, media_id: int) -> None:
        request = pb.SaveMediaRequest(request_id=new_request_id(), media_id=media_id)
        await self.call(
            lambda stubs: stubs.saves.SaveMedia, request, session, edge=("save", media_id)
        )

    async def unsave(self, session: Session, media_id: int) -> None:
        request = pb.UnsaveMediaRequest(request_id=new_request_id(), media_id=media_id)
        await self.call(
            lambda stubs: stubs.saves.UnsaveMedia, request, session, edge=("save", media_id)
        )

    def saved(self, session: Session, *, page_size: int = 0) -> Pages[MediaItem]:
        async def read(page_token: str) -> Page[MediaItem]:
            request = pb.ListSavedRequest(page_size=page_size, page_token=page_token)
            page = await self.call(lambda stubs: stubs.saves.ListSaved, request, session)
            return Page(page.items, page.next_page_token, page.stale)

        return Pages(read)
