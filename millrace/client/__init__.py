"""The client of the gRPC contract: typed, asynchronous, and all that a caller has to get right.

    async with Client("127.0.0.1:50051") as client:
        ana = await client.register("ana", "correct horse")
        item = await client.upload(ana, Path("sea.jpg"), "the sea")
        await client.like(ana, item.id)
        async for shown in client.feed(ana): …

What every call does (deadline, retries under one request_id, tokens, positions): `calls`. What a
session's writes do to each other: `session`. RPCs without a method here: `Client.call`.

Not: watching, and more than one event loop.
"""

from millrace.client.calls import Attempt, new_request_id
from millrace.client.comments import Comments
from millrace.client.connections import Stubs
from millrace.client.feed import Feed
from millrace.client.follows import Follows
from millrace.client.likes import Likes
from millrace.client.media import Download, Media
from millrace.client.pages import Page, Pages
from millrace.client.recording import Recording
from millrace.client.saves import Saves
from millrace.client.session import POSITION_METADATA, Session
from millrace.client.users import Users

__all__ = [
    "POSITION_METADATA", "Attempt", "Client", "Download", "Page", "Pages", "Recording", "Session",
    "Stubs", "new_request_id",
]  # fmt: skip


class Client(Users, Media, Follows, Likes, Comments, Saves, Feed):
    """Calls Millrace at one address."""
