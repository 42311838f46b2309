"""`rpc`: LikeMedia by one server process, against a handler that does nothing.

First with the projector stopped, so that two cores carry the calls alone; then while it follows,
as in a running installation. One client process calls both servers in turns, with `AT_ONCE` calls
under way: a peak rate is a rate at saturation, and a busy process gathers calls for some
milliseconds, in which 64 callers run out of calls to make.
"""

import contextlib
import sys
from functools import partial

from cli.benches.caller import Turn
from cli.benches.calling import Calling, calling, metadata_of
from cli.benches.effort import GRAPHS, Effort
from cli.benches.figures import Round, Row, rate_row
from cli.benches.population import append_posts, load_people, log_in, posts_of, until_applied
from cli.benches.stand import Stand, Told
from cli.processes import ROOT
from deploy.local.child import Child
from deploy.local.ports import LOOPBACK, connect
from millrace.client import Client, Session, new_request_id
from millrace.clock import SystemClock
from millrace.ids import IdMint
from millrace.log.kafka import KafkaLog
from millrace.stores.postgres import PostgresStore
from millrace.traffic.graph import read_graph
from millrace.views import VIEWS
from social.v1 import likes_pb2

AT_ONCE = 256
# So many callers take a second to get going.
SECONDS = 8.0
_GRAPH = GRAPHS / "twitch-pt.follows.gz"
_CATCH_UP_S = 120.0
_PROJECTOR, _SERVER, _EMPTY = "projector", "grpc-0", "empty"
# What a call costs: a refusal for want of a place costs next to nothing, and would be measured. And
# the bare part asks for no priority.
_ENVIRONMENT = {"MILLRACE_ADMISSION_DELAY_MS": "0", "MILLRACE_GRPC_NICE": "0"}


async def run(effort: Effort, told: Told) -> list[Row]:
    async with (
        Stand(
            "rpc", effort, told, processes=(_PROJECTOR, _SERVER), environment=_ENVIRONMENT
        ) as stand,
        contextlib.AsyncExitStack() as opened,
    ):
        log = KafkaLog(stand.settings)
        opened.push_async_callback(log.close)
        store = await PostgresStore.open(stand.settings)
        opened.push_async_callback(store.close)
        caught_up = partial(until_applied, log, store, VIEWS, _CATCH_UP_S)

        following = read_graph(effort.graph or _GRAPH)
        user_ids = await load_people(stand, log, following)
        posts = posts_of(user_ids, IdMint(SystemClock()), log.partitions)
        await append_posts(log, posts, SystemClock())
        await caught_up()
        media_ids = [post.media_id for post in posts]
        told(f"{AT_ONCE} people log in")
        sessions = await log_in(stand.settings.grpc_address, range(AT_ONCE))
        await _like_once(stand.settings.grpc_address, sessions, media_ids)
        ours = Turn(
            stand.settings.grpc_address,
            "like",
            effort.seconds,
            AT_ONCE,
            metadata=metadata_of(sessions),
            media_ids=media_ids,
        )
        empty = await _empty_server(stand)
        theirs = Turn(empty, "like", effort.seconds, AT_ONCE, 0, ours.metadata, media_ids)
        caller = await opened.enter_async_context(calling(stand))

        async def turn_of(what: Turn, _number: int) -> Round:
            return await _called(caller, what)

        async def projected(_number: int) -> Round:
            done = await _called(caller, ours)
            await caught_up()
            return done

        await stand.stop(_PROJECTOR)
        bare = partial(turn_of, theirs)
        alone = await stand.rounds(
            effort.rounds, {"LikeMedia": partial(turn_of, ours), "empty handler": bare}
        )
        told("from now on with the projector")
        await stand.start(_PROJECTOR)
        await caught_up()
        whole = await stand.rounds(
            effort.rounds, {"LikeMedia, projected": projected, "empty handler": bare}
        )
    note = (
        f"LikeMedia, {AT_ONCE} concurrent by one client process, {len(sessions)} sessions with"
        f" position tokens, {len(media_ids):,} items; one server process that refuses"
        " none, projector stopped; bare part: an empty handler of the same messages (grpc.aio,"
        " uvloop, no interceptor)"
    )
    projecting = "the same while the projector follows; its work counts in the CPU time"
    return [
        rate_row("unary rpc", "calls/s", alone["LikeMedia"], alone["empty handler"], note),
        rate_row(
            "unary rpc, projected",
            "calls/s",
            whole["LikeMedia, projected"],
            whole["empty handler"],
            projecting,
        ),
    ]


async def _called(caller: Calling, turn: Turn) -> Round:
    done = await caller.take(turn)
    return Round(done.calls, done.seconds, quantiles_ms=done.quantiles_ms)


async def _like_once(address: str, sessions: list[Session], media_ids: list[int]) -> None:
    """So that each session has a position, which its calls carry from then on."""
    client = Client(address)
    try:
        for session, media_id in zip(sessions, media_ids, strict=False):
            request = likes_pb2.LikeMediaRequest(request_id=new_request_id(), media_id=media_id)
            await client.call(lambda stubs: stubs.likes.LikeMedia, request, session)
    finally:
        await client.close()


async def _empty_server(stand: Stand) -> str:
    port = stand.port("empty")
    address = f"{LOOPBACK}:{port}"
    await stand.add(
        Child(
            name=_EMPTY,
            argv=(sys.executable, "-m", "cli.benches.empty_server", address),
            ready=lambda: connect(port),
            cwd=ROOT,
        )
    )
    return address
