"""From what a client streams to a media item: bytes, event, view.

Killed at any line, nothing is half done: bytes that no event names are swept, and a retry with
the same request_id finds what the first try's event created, or creates it.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

from millrace.auth.sealing import seal_text
from millrace.content.cleaner import Content
from millrace.content.kind import Kind
from millrace.errors import AlreadyExists, FailedPrecondition, InvalidRequest, OutcomeUnknown
from millrace.log.partitioner import key_of, partition_of
from millrace.stores.fold import ClaimRow
from millrace.stores.objects import object_key
from millrace.views import media
from millrace.views.media import MEDIA
from services.call import Call
from services.parts import Parts
from social.log.v1 import media_pb2 as log
from social.v1.media_pb2 import UploadMediaHeader

# An id clashes when two processes mint in one millisecond for one partition; rarely, and never
# so often.
MINTS_MAX = 5

_KINDS = {
    Kind.JPEG: log.MEDIA_KIND_JPEG,
    Kind.PNG: log.MEDIA_KIND_PNG,
    Kind.WEBP: log.MEDIA_KIND_WEBP,
    Kind.MP4: log.MEDIA_KIND_MP4,
}


class Publishing:
    """One a process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def publish(
        self, call: Call, header: UploadMediaHeader, chunks: AsyncIterator[bytes]
    ) -> int:
        """The id of the item that this request created, now or in an earlier try.

        Raises InvalidRequest for bytes that are no media, AlreadyExists for another body under
        the same request_id, OutcomeUnknown when the view does not apply the event in time.
        """
        cleaner = self._parts.cleaner
        largest = max(cleaner.limits.image_bytes_max, cleaner.limits.video_bytes_max)
        if header.size_bytes > largest:
            raise InvalidRequest(f"at most {largest} bytes", reason="MEDIA_TOO_LARGE")
        request_id = UUID(header.request_id).bytes
        async with cleaner.spool() as spool, aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                await spool.write(chunk)
            if not spool.size_bytes:
                raise InvalidRequest("no bytes were sent", reason="MEDIA_EMPTY")
            if header.size_bytes and header.size_bytes != spool.size_bytes:
                raise InvalidRequest(
                    f"{spool.size_bytes} bytes were sent, {header.size_bytes} announced",
                    reason="MEDIA_SIZE_DIFFERS",
                )
            body = hashlib.sha256(header.caption.encode() + b"\0" + spool.sha256).digest()
            # Asked before the costly part; the view decides anyway.
            await call.stale(media.VIEW)
            if earlier := await self._claim(call, request_id):
                return _answer(earlier, body)
            async with cleaner.clean(spool) as content:
                return await self._create(call, header.caption, request_id, body, content)

    async def _create(
        self, call: Call, caption: str, request_id: bytes, body: bytes, content: Content
    ) -> int:
        parts = self._parts
        partition = partition_of(key_of(call.user_id), parts.log.partitions)
        for _ in range(MINTS_MAX):
            media_id = parts.ids.mint(partition)
            key = object_key(media_id)
            await parts.objects.put(key, content.chunks())
            event = self._event(call.user_id, media_id, request_id, body, content, key)
            await self._seal_caption(event, caption)
            appended = await call.append(
                "media", key_of(call.user_id), log.MediaEvent(uploaded=event)
            )
            await call.applied(media.VIEW, appended)
            if claim := await self._claim(call, request_id):
                return _answer(claim, body)
            # The id was taken: nothing happened. Mint again under the same request_id.
        raise OutcomeUnknown("every id that was minted was taken")

    def _event(
        self,
        author_id: int,
        media_id: int,
        request_id: bytes,
        body: bytes,
        content: Content,
        key: str,
    ) -> log.MediaUploaded:
        return log.MediaUploaded(
            media_id=media_id,
            author_id=author_id,
            at_ms=self._parts.clock.now_ms(),
            request_id=request_id,
            body_sha256=body,
            kind=_KINDS[content.kind],
            width=content.width,
            height=content.height,
            duration_ms=content.duration_ms,
            object_key=key,
            size_bytes=content.size_bytes,
            content_sha256=content.sha256,
        )

    async def _seal_caption(self, event: log.MediaUploaded, caption: str) -> None:
        if not caption:
            return
        data_key = await self._parts.data_keys.of(event.author_id)
        if data_key is None:
            raise FailedPrecondition("the account's text is being erased", reason="USER_ERASED")
        event.sealed.CopyFrom(
            seal_text(data_key, event.author_id, log.CaptionText(caption=caption))
        )

    async def _claim(self, call: Call, request_id: bytes) -> ClaimRow | None:
        return await MEDIA.claimed_by(self._parts.views, call.user_id, request_id)


def _answer(claim: ClaimRow, body: bytes) -> int:
    if claim.body != body:
        raise AlreadyExists(
            "this request_id was used with another body", reason="REQUEST_ID_REUSED"
        )
    return claim.key
