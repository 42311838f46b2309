"""RecordLikes on the real log: 20,000 items through cut connections and a killed server."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from cli.benches.population import append_posts, posts_of
from millrace.client import Client, Session
from millrace.clock import SystemClock
from millrace.ids import IdMint
from millrace.relations.entity import READ_KEYS_MAX
from millrace.views.likes import LIKES
from tests.cutting import Proxy, cutting
from tests.running import PASSWORD, RunningMillrace, running_millrace

__all__ = ["running_millrace"]

LIKES_COUNT = 19_000
UNLIKES_EVERY = 19
CUTS_EVERY = 3_000
KILL_AT = 8_000
_PAGE = 1_000
OTHERS_LIKED = set[int]()


@pytest.fixture(scope="module")
async def media_ids(running_millrace: RunningMillrace) -> Sequence[int]:
    """Ana's items, in the log by bulk and in the views."""
    log = running_millrace.stores.log
    ana = await running_millrace.client.register(f"ana.{secrets.token_hex(3)}", PASSWORD)
    mint = IdMint(SystemClock())
    posts = posts_of([ana.user_id] * LIKES_COUNT, mint, log.partitions)
    await append_posts(log, posts, SystemClock())
    await running_millrace.process_all()
    return [post.media_id for post in posts]


@pytest.fixture
async def proxy(running_millrace: RunningMillrace) -> AsyncIterator[Proxy]:
    async with cutting(running_millrace.installation.grpc_address) as made:
        yield made


async def check(
    millrace: RunningMillrace, client: Client, who: Session, liked: set[int], all_ids: Sequence[int]
) -> None:
    """The set, the inverse and the counts are what was recorded, by him and before by others."""
    await millrace.process_all()
    views, found = millrace.stores.views, set[int]()
    after: int | None = None
    while page := await LIKES.inverse_page(views, who.user_id, after=after, limit=_PAGE):
        found |= {edge.source for edge in page}
        after = page[-1].source
    assert found == liked
    for start in range(0, len(all_ids), READ_KEYS_MAX):
        some = all_ids[start : start + READ_KEYS_MAX]
        counts = await LIKES.count(views, some)
        for media_id in some:
            others = media_id in OTHERS_LIKED
            assert counts[media_id] - others == (media_id in liked)
    likers = await client.likers(who, next(iter(liked))).page()
    assert not likers.stale
    assert who.user_id in [user.id for user in likers.items]


@pytest.mark.timeout(300)
async def test_20_000_items_through_cuts_and_a_kill_are_exact(
    running_millrace: RunningMillrace, proxy: Proxy, media_ids: Sequence[int]
) -> None:
    server = next(name for name in running_millrace.names if name.startswith("grpc"))
    killing: asyncio.Task[None] | None = None
    liked = set(media_ids)
    async with Client(proxy.address, connections=2, deadline_s=60.0) as client:
        ben = await client.register(f"ben.{secrets.token_hex(3)}", PASSWORD)
        begun_s = time.monotonic()
        async with client.record_likes(ben) as recording:
            for number, media_id in enumerate(media_ids, start=1):
                await recording.like(media_id)
                if number % UNLIKES_EVERY == 0:
                    await recording.unlike(media_id)
                    liked.discard(media_id)
                if number % CUTS_EVERY == 0:
                    proxy.cut()
                if number == KILL_AT:
                    killing = asyncio.create_task(running_millrace.kill(server))
        seconds = time.monotonic() - begun_s
        assert recording.acknowledged == LIKES_COUNT + LIKES_COUNT // UNLIKES_EVERY
        assert proxy.cuts >= LIKES_COUNT // CUTS_EVERY
        assert client.retries > 0
        print(
            f"{recording.acknowledged:,} items in {seconds:.1f} s through {proxy.cuts} cuts and"
            f" the kill of {server}, {client.retries} retries"
        )
        assert killing is not None
        await killing
        await check(running_millrace, client, ben, liked, media_ids)
    OTHERS_LIKED.update(liked)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_as_many_undisturbed(
    running_millrace: RunningMillrace, media_ids: Sequence[int]
) -> None:
    """Prints the rate; a break would not show here, so the sets are compared as well."""
    client = running_millrace.client
    cem = await client.register(f"cem.{secrets.token_hex(3)}", PASSWORD)
    begun_s = time.monotonic()
    async with client.record_likes(cem) as recording:
        for media_id in media_ids:
            await recording.like(media_id)
    seconds = time.monotonic() - begun_s
    print(f"{len(media_ids):,} likes in {seconds:.2f} s: {len(media_ids) / seconds:,.0f}/s")
    await check(running_millrace, client, cem, set(media_ids), media_ids)
