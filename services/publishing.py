"""From what a client streams to a media item: bytes, event, view.

Killed at any line, nothing is half done: bytes that no event names are swept, and a retry with
the same request_id finds what the first try's event created, or creates it.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

from millrace.content.cleaner import Content
from millrace.content.kind import Kind
from millrace.errors import InvalidRequest
from millrace.log.partitioner import key_of
from millrace.log.port import Appended
from millrace.stores.objects import object_key
from millrace.views import media
from millrace.views.media import MEDIA
from services.call import Call
from services.creation import create, created_before
from services.parts import Parts
from services.personal_text import sealed
from services.sessions import Sessions
from social.log.v1 import media_pb2 as log
from social.v1.media_pb2 import UploadMediaHeader

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
        self._sessions = Sessions(parts)

    async def publish(
        self, call: Call, header: UploadMediaHeader, chunks: AsyncIterator[bytes]
    ) -> int:
        """The id of the item that this request created, now or in an earlier try.

        Raises InvalidRequest for bytes that are no media, AlreadyExists for another body under
        the same request_id, Unauthenticated when the session has ended meanwhile, OutcomeUnknown
        when the view does not apply the event in time.
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
            earlier = await created_before(call, MEDIA, request_id, body)
            if earlier is not None:
                return earlier
            async with cleaner.clean(spool) as content:
                return await self._create(call, header.caption, request_id, body, content)

    async def _create(
        self, call: Call, caption: str, request_id: bytes, body: bytes, content: Content
    ) -> int:
        author_id = call.user_id

        async def append(media_id: int) -> Appended:
            key = object_key(media_id)
            await self._parts.objects.put(key, content.chunks())
            event = self._event(author_id, media_id, request_id, body, content, key)
            if caption:
                text = log.CaptionText(caption=caption)
                event.sealed.CopyFrom(await sealed(self._parts, author_id, text))
            # Its bytes may have come for minutes, and nothing is published after a log-out.
            await self._sessions.check(call.caller)
            return await call.append("media", key_of(author_id), log.MediaEvent(uploaded=event))

        return await create(call, media.VIEW, MEDIA, request_id, body, append)

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
