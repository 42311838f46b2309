"""What every processor needs around its work: stores, health, signals, and an orderly end.

    async def main(parts: StreamParts) -> None: ...     runs until cancelled
    run("projector", main)

Exit codes: 0 asked to end, 1 wrong settings, 70 it cannot go on as it is (the supervisor starts
it again).
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import uvloop

from millrace import collector
from millrace.auth.keys import Keys, load_keys
from millrace.clock import Clock, SystemClock
from millrace.errors import MillraceError
from millrace.log.control import LogIdentity, read_identity
from millrace.log.kafka import KafkaLog
from millrace.observe import logs
from millrace.observe.health import start_health
from millrace.settings import Settings
from millrace.startup import CANNOT_GO_ON, settings_or_exit, until_answered
from millrace.stores.postgres import PostgresStore

logger = logs.logger("streams.process")


@dataclass(slots=True)
class StreamParts:
    """`ready`: set by the work when it follows the log; health shows it."""

    settings: Settings
    clock: Clock
    keys: Keys
    log: KafkaLog
    identity: LogIdentity
    views: PostgresStore
    ready: bool = False


def run(name: str, work: Callable[[StreamParts], Awaitable[None]]) -> None:
    """The whole life of a processor. Never returns."""
    chosen = settings_or_exit()
    logs.configure(name, chosen.log_level)
    sys.exit(uvloop.run(_live(name, chosen, work)))


async def _live(name: str, chosen: Settings, work: Callable[[StreamParts], Awaitable[None]]) -> int:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    working = asyncio.create_task(_work(name, chosen, work))
    ending = asyncio.create_task(asked.wait())
    await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if not working.done():
        working.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(chosen.stop_grace_s):
                await asyncio.wait({working})
        logger.info("stopped")
        return 0
    error = working.exception()
    if isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MillraceError):
        logger.error("cannot go on", reason=error.reason, why=error.message)
    else:
        logger.error("cannot go on", exc_info=error)
    return CANNOT_GO_ON


async def _work(
    name: str, chosen: Settings, work: Callable[[StreamParts], Awaitable[None]]
) -> None:
    log = KafkaLog(chosen)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(log.close)
        identity = await until_answered(lambda: read_identity(log), waiting)
        views = await until_answered(lambda: PostgresStore.open(chosen), waiting)
        stack.push_async_callback(views.close)
        parts = StreamParts(chosen, SystemClock(), load_keys(chosen.keys_dir), log, identity, views)
        health = await start_health(chosen, lambda: parts.ready)
        stack.push_async_callback(health.stop)
        collector.settle(chosen.collector_objects)
        logger.info("started", worker=chosen.worker, pid_name=name)
        await work(parts)


def waiting(why: str) -> None:
    """For `until_answered`."""
    logger.warning("waiting", why=why)
