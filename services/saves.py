"""SavesService: one event a save, keyed by who saves; his own list of what he saved."""

import asyncio

from millrace import policy
from millrace.log.partitioner import key_of
from millrace.views import comments, likes, media, saves, users
from millrace.views.hydration import media_items
from millrace.views.saves import SAVES
from services import presentation
from services.call import Call
from services.page import page_of
from services.parts import Parts
from social.log.v1.saves_pb2 import MediaSaved, MediaUnsaved, SavesEvent
from social.v1 import saves_pb2 as pb


class SavesService:
    def __init__(self, parts: Parts) -> None:
        self._store = parts.views
        self._clock = parts.clock
        self._facts = parts.media_facts

    async def save_media(self, call: Call, request: pb.SaveMediaRequest) -> pb.SaveMediaResponse:
        await self._admit(call, request.media_id)
        saved = MediaSaved(
            user_id=call.user_id, media_id=request.media_id, at_ms=self._clock.now_ms()
        )
        await call.append("saves", key_of(call.user_id), SavesEvent(saved=saved))
        return pb.SaveMediaResponse()

    async def unsave_media(
        self, call: Call, request: pb.UnsaveMediaRequest
    ) -> pb.UnsaveMediaResponse:
        user_id, media_id = call.user_id, request.media_id
        await call.stale(saves.VIEW)
        # What is hidden from him by now is his to take off the list all the same.
        if not await SAVES.among(self._store, [(user_id, media_id)]):
            await self._admit(call, media_id)
        unsaved = MediaUnsaved(user_id=user_id, media_id=media_id, at_ms=self._clock.now_ms())
        await call.append("saves", key_of(user_id), SavesEvent(unsaved=unsaved))
        return pb.UnsaveMediaResponse()

    async def list_saved(self, call: Call, request: pb.ListSavedRequest) -> pb.ListSavedResponse:
        user_id = call.user_id
        page = page_of(call, "saved", user_id, request.page_size, request.page_token)
        stale = await call.stale(saves.VIEW, media.VIEW, users.VIEW, likes.VIEW, comments.VIEW)
        edges, counts = await asyncio.gather(
            SAVES.page(self._store, user_id, after=page.after, limit=page.limit + 1),
            SAVES.count(self._store, [user_id]),
        )
        ids = [edge.target for edge in edges[: page.limit]]
        items = await media_items(self._store, ids, user_id)
        return pb.ListSavedResponse(
            items=[presentation.media_item(items[one]) for one in ids if one in items],
            next_page_token=page.next_token(edges, ids),
            saves_count=counts[user_id],
            stale=stale,
        )

    async def _admit(self, call: Call, media_id: int) -> None:
        """By what the views say now, and never behind what the caller has seen himself do."""
        await call.stale(media.VIEW, users.VIEW)
        policy.check_media_seen(await self._facts.get(media_id))
