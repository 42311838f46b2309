"""Media items: bytes up and down, captions, lists."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc

from millrace.client.body import Body, Source, body_of
from millrace.client.calls import Attempt, Calls, Tries, new_request_id
from millrace.client.pages import Page, Pages
from millrace.client.session import Session, take_position
from millrace.errors import StoreUnavailable
from social.v1 import media_pb2 as pb


class Download:
    """An item's bytes, chunk by chunk; `header` describes them from the first chunk on.

    A broken connection is taken up where it broke, for stored bytes never change. Raises
    StoreUnavailable at the end of bytes that are not those which the header announced.
    """

    def __init__(self, calls: Calls, session: Session, request: pb.DownloadMediaRequest) -> None:
        self._calls = calls
        self._session = session
        self._request = request
        self.header = pb.DownloadMediaHeader()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        done_bytes, digest = 0, hashlib.sha256()
        tries = Tries(
            self._calls, self._session, write=False, deadline_s=self._calls.transfer_deadline_s
        )
        while True:
            metadata = await tries.begin()
            try:
                with self._calls.connections.least_busy() as stubs:
                    call = stubs.media.DownloadMedia(
                        self._request, metadata=metadata, timeout=tries.left_s()
                    )
                    skip_bytes = done_bytes
                    async for message in call:
                        if message.WhichOneof("part") == "header":
                            self._take_header(message.header)
                        elif chunk := message.chunk[skip_bytes:]:
                            skip_bytes, done_bytes = 0, done_bytes + len(chunk)
                            digest.update(chunk)
                            yield chunk
                        else:
                            skip_bytes -= len(message.chunk)
                break
            except grpc.aio.AioRpcError as refused:
                refusal = refused
            await tries.after(refusal)
        if (done_bytes, digest.digest()) != (self.header.size_bytes, self.header.sha256):
            raise StoreUnavailable(
                f"item {self._request.media_id} came damaged", reason="DOWNLOAD_DAMAGED"
            )

    def _take_header(self, header: pb.DownloadMediaHeader) -> None:
        if self.header.sha256 and self.header.sha256 != header.sha256:
            raise StoreUnavailable("another item after a break", reason="DOWNLOAD_DAMAGED")
        self.header = header


class Media(Calls):
    async def upload(
        self,
        session: Session,
        source: Source,
        caption: str = "",
        *,
        media_type: str = "",
        request_id: str = "",
    ) -> pb.MediaItem:
        """Publishes bytes, a file, or what an iterator gives; chunk by chunk, but that of an
        iterator up to 256 MiB is kept on disk first. The same `request_id` publishes it once, in
        another process too. Takes at most the client's `transfer_deadline_s`.
        """
        async with body_of(source) as body:
            header = pb.UploadMediaHeader(
                request_id=request_id or new_request_id(),
                caption=caption,
                media_type=media_type,
                size_bytes=body.size_bytes,
            )

            async def once(attempt: Attempt) -> pb.MediaItem:
                sent = session.positions
                call = attempt.stubs.media.UploadMedia(
                    _messages(header, body), metadata=attempt.metadata, timeout=attempt.timeout_s
                )
                response = await call
                await take_position(session, sent, call)
                return response.media

            return await self.tried_again(
                once, session, write=True, deadline_s=self.transfer_deadline_s
            )

    def downloading(
        self,
        session: Session,
        media_id: int,
        rendition: pb.Rendition.ValueType = pb.RENDITION_UNSPECIFIED,
    ) -> Download:
        """`async for chunk in client.downloading(session, media_id)`"""
        request = pb.DownloadMediaRequest(media_id=media_id, rendition=rendition)
        return Download(self, session, request)

    async def download(
        self, session: Session, media_id: int
    ) -> tuple[pb.DownloadMediaHeader, bytes]:
        """All of an item's bytes in memory, behind what describes them."""
        download = self.downloading(session, media_id)
        chunks = [chunk async for chunk in download]
        return download.header, b"".join(chunks)

    async def download_to(
        self, session: Session, media_id: int, path: Path
    ) -> pb.DownloadMediaHeader:
        """Into a file, which is there when all of it is, and right."""
        part = path.with_name(f"{path.name}.{new_request_id()}.part")
        download = self.downloading(session, media_id)
        try:
            file = await asyncio.to_thread(part.open, "xb")
            try:
                async for chunk in download:
                    await asyncio.to_thread(file.write, chunk)
            finally:
                await asyncio.to_thread(file.close)
            await asyncio.to_thread(part.replace, path)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)
        return download.header

    async def get_media(self, session: Session, media_ids: Sequence[int]) -> pb.GetMediaResponse:
        """At most 100; what the viewer may not see is left out."""
        request = pb.GetMediaRequest(media_ids=media_ids)
        return await self.call(lambda stubs: stubs.media.GetMedia, request, session)

    def user_media(
        self, session: Session, user_id: int, *, page_size: int = 0
    ) -> Pages[pb.MediaItem]:
        """Newest first."""

        async def read(page_token: str) -> Page[pb.MediaItem]:
            request = pb.ListUserMediaRequest(
                user_id=user_id, page_size=page_size, page_token=page_token
            )
            page = await self.call(lambda stubs: stubs.media.ListUserMedia, request, session)
            return Page(page.items, page.next_page_token, page.stale)

        return Pages(read)

    async def edit_caption(self, session: Session, media_id: int, caption: str) -> None:
        request = pb.EditCaptionRequest(
            request_id=new_request_id(), media_id=media_id, caption=caption
        )
        await self.call(
            lambda stubs: stubs.media.EditCaption, request, session, edge=("caption", media_id)
        )

    async def delete_media(self, session: Session, media_id: int) -> bool:
        """For ever. True when it holds everywhere, False when it soon will."""
        request = pb.DeleteMediaRequest(request_id=new_request_id(), media_id=media_id)
        answer = await self.call(lambda stubs: stubs.media.DeleteMedia, request, session)
        return not answer.pending


async def _messages(
    header: pb.UploadMediaHeader, body: Body
) -> AsyncIterator[pb.UploadMediaRequest]:
    yield pb.UploadMediaRequest(header=header)
    async for chunk in body.chunks():
        yield pb.UploadMediaRequest(chunk=chunk)
