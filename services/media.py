"""MediaService: bytes first, then the event that names them; reads of items and their bytes.

Not yet: renditions. How an upload is published: `services/publishing.py`.
"""

from collections.abc import AsyncIterator

from millrace import policy
from millrace.errors import InvalidRequest, NotFound, StoreUnavailable, Unimplemented
from millrace.log.partitioner import key_of
from millrace.views import comments, likes, media, users
from millrace.views.hydration import media_items
from millrace.views.media import MEDIA, MEDIA_BY_AUTHOR
from services import presentation
from services.call import Call
from services.page import page_of
from services.parts import Parts
from services.personal_text import sealed
from services.publishing import Publishing
from social.log.v1.media_pb2 import CaptionEdited, CaptionText, MediaDeleted, MediaEvent
from social.v1 import media_pb2 as pb


class MediaService:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.views
        self._publishing = Publishing(parts)
        self._facts = parts.media_facts

    async def upload_media(
        self, call: Call, requests: AsyncIterator[pb.UploadMediaRequest]
    ) -> pb.UploadMediaResponse:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidRequest("the first message is the header", reason="UPLOAD_OUT_OF_ORDER")
        media_id = await self._publishing.publish(call, first.header, _chunks(requests))
        # The answer shows author and counts, too: not from before what the caller has done himself.
        await call.stale(users.VIEW, likes.VIEW, comments.VIEW)
        items = await media_items(self._store, [media_id], call.user_id)
        if media_id not in items:
            raise NotFound("it has been deleted since", reason="MEDIA_NOT_FOUND")
        return pb.UploadMediaResponse(media=presentation.media_item(items[media_id]))

    async def get_media(self, call: Call, request: pb.GetMediaRequest) -> pb.GetMediaResponse:
        stale = await call.stale(media.VIEW, users.VIEW, likes.VIEW, comments.VIEW)
        ids = list(dict.fromkeys(request.media_ids))
        items = await media_items(self._store, ids, call.user_id)
        return pb.GetMediaResponse(
            items=[presentation.media_item(items[one]) for one in ids if one in items],
            stale=stale,
        )

    async def list_user_media(
        self, call: Call, request: pb.ListUserMediaRequest
    ) -> pb.ListUserMediaResponse:
        owner_id = request.user_id
        page = page_of(call, "user_media", owner_id, request.page_size, request.page_token)
        stale = await call.stale(media.VIEW, users.VIEW, likes.VIEW, comments.VIEW)
        policy.check_user_seen(owner_id in await users.by_id(self._store, [owner_id]))
        edges = await MEDIA_BY_AUTHOR.page(
            self._store, owner_id, before=page.after, limit=page.limit + 1
        )
        ids = [edge.target for edge in edges[: page.limit]]
        items = await media_items(self._store, ids, call.user_id)
        return pb.ListUserMediaResponse(
            items=[presentation.media_item(items[one]) for one in ids if one in items],
            next_page_token=page.next_token(edges, ids),
            stale=stale,
        )

    async def download_media(
        self, call: Call, request: pb.DownloadMediaRequest
    ) -> AsyncIterator[pb.DownloadMediaResponse]:
        if request.rendition not in (pb.RENDITION_UNSPECIFIED, pb.RENDITION_ORIGINAL):
            raise Unimplemented("renditions come with a later version", reason="RENDITION")
        await call.stale(media.VIEW, users.VIEW)
        policy.check_media_seen(await self._facts.get(request.media_id))
        row = (await media.by_id(self._store, [request.media_id])).get(request.media_id)
        if row is None:
            raise NotFound("there is no such media item", reason="MEDIA_NOT_FOUND")
        chunks = self._parts.objects.get_chunks(
            row.object_key, self._parts.settings.download_chunk_bytes
        )
        header = pb.DownloadMediaHeader(
            rendition=pb.RENDITION_ORIGINAL,
            kind=pb.MediaKind.ValueType(row.kind),
            size_bytes=row.size_bytes,
            sha256=row.content_sha256,
            width=row.width,
            height=row.height,
        )
        yield pb.DownloadMediaResponse(header=header)
        try:
            async for chunk in chunks:
                yield pb.DownloadMediaResponse(chunk=chunk)
        except NotFound as error:
            # A row stands for bytes that were written before it: they are away, not gone.
            raise StoreUnavailable("the item's bytes are not there") from error

    async def edit_caption(
        self, call: Call, request: pb.EditCaptionRequest
    ) -> pb.EditCaptionResponse:
        media_id, user_id = request.media_id, call.user_id
        await call.stale(media.VIEW, users.VIEW)
        policy.check_media_changed(user_id, await self._facts.get(media_id))
        edited = CaptionEdited(
            media_id=media_id, author_id=user_id, at_ms=self._parts.clock.now_ms()
        )
        if request.caption:
            text = CaptionText(caption=request.caption)
            edited.sealed.CopyFrom(await sealed(self._parts, user_id, text))
        await call.append("media", key_of(user_id), MediaEvent(caption_edited=edited))
        return pb.EditCaptionResponse()

    async def delete_media(
        self, call: Call, request: pb.DeleteMediaRequest
    ) -> pb.DeleteMediaResponse:
        media_id, user_id = request.media_id, call.user_id
        await call.stale(media.VIEW, users.VIEW)
        # The facts before the row: a first try that ends it in between is then seen in the row.
        facts = await self._facts.get(media_id)
        row = (await MEDIA.get_many_ended_too(self._store, [(media_id,)])).get((media_id,))
        if row is None or not row.ended or row.values["author_id"] != user_id:
            policy.check_media_changed(user_id, facts)
        deleted = MediaDeleted(
            media_id=media_id, author_id=user_id, at_ms=self._parts.clock.now_ms()
        )
        appended = await call.append("media", key_of(user_id), MediaEvent(deleted=deleted))
        hidden = await call.hidden_everywhere(media.VIEW, appended)
        return pb.DeleteMediaResponse(pending=not hidden)


async def _chunks(requests: AsyncIterator[pb.UploadMediaRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidRequest("only one header, at the start", reason="UPLOAD_OUT_OF_ORDER")
        yield request.chunk
