"""One gRPC server process: `python -m services`. The supervisor starts several.

Exit codes: 0 asked to end, 1 wrong settings, 70 it cannot go on as it is (the supervisor starts
it again).
"""

import asyncio
import contextlib
import sys

import uvloop

from millrace import collector
from millrace.auth.keys import load_keys
from millrace.clock import SystemClock
from millrace.errors import MillraceError
from millrace.log.control import Control
from millrace.log.kafka import KafkaLog
from millrace.observe import logs
from millrace.observe.health import Metrics, write_ports
from millrace.settings import Settings
from millrace.startup import CANNOT_GO_ON, settings_or_exit, until_answered
from millrace.stores.cache_ring import open_cache
from millrace.stores.cassandra import open_feed_store
from millrace.stores.postgres import PostgresStore
from services.catalogue import services_of
from services.covered import Covered
from services.descriptors import take_descriptors
from services.parts import Parts, assemble
from services.priority import take_first_turn, take_priority
from services.server import Server, asked_to_end

log = logs.logger("services")


def main() -> int:
    chosen = settings_or_exit()
    logs.configure(f"grpc-{chosen.worker}", chosen.log_level)
    take_descriptors(chosen)
    if chosen.grpc_realtime and not take_first_turn():
        log.info("no turn before others: the system does not allow it")
    if not take_priority(chosen.grpc_nice):
        log.info("no priority: the system does not allow it", nice=chosen.grpc_nice)
    return uvloop.run(_live(chosen))


async def _live(chosen: Settings) -> int:
    ending = asyncio.create_task(asked_to_end())
    async with contextlib.AsyncExitStack() as stack:
        serving = asyncio.create_task(_serve(chosen, stack))
        await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            serving.cancel()
        try:
            await serving
            await ending
        except asyncio.CancelledError:
            log.info("stopped before it served")
        except MillraceError as error:
            log.error("cannot go on", reason=error.reason, why=error.message)  # noqa: TRY400
            return CANNOT_GO_ON
        except Exception:
            log.exception("cannot go on")
            return CANNOT_GO_ON
    return 0


async def _serve(chosen: Settings, stack: contextlib.AsyncExitStack) -> None:
    """Returns when it serves; `stack` ends it."""
    parts = await _open(chosen, stack)
    server = Server(parts, services_of(parts))
    metrics = Metrics(chosen)
    stack.callback(metrics.close)
    collector.settle(chosen.collector_objects)
    await server.start()
    stack.push_async_callback(server.stop)
    write_ports(chosen, {"grpc": server.port, "metrics": metrics.port})


async def _open(chosen: Settings, stack: contextlib.AsyncExitStack) -> Parts:
    keys = load_keys(chosen.keys_dir)
    records = KafkaLog(chosen)
    stack.push_async_callback(records.close)
    control = Control(records)
    stack.push_async_callback(control.close)
    await until_answered(control.catch_up, _waiting)
    covered = Covered(records, SystemClock())
    stack.push_async_callback(covered.close)
    await until_answered(covered.start, _waiting)
    views = await until_answered(lambda: PostgresStore.open(chosen, admission=covered), _waiting)
    stack.push_async_callback(views.close)
    feeds = await until_answered(lambda: open_feed_store(chosen), _waiting)
    stack.push_async_callback(feeds.close)
    cache = open_cache(chosen, SystemClock())
    stack.push_async_callback(cache.close)
    parts = assemble(chosen, SystemClock(), keys, records, control, views, feeds, cache)
    stack.callback(parts.passwords.close)
    stack.push_async_callback(parts.cleaner.close)
    stack.push_async_callback(parts.positions.close)
    stack.push_async_callback(parts.rates.close)
    parts.rates.start()
    return parts


def _waiting(why: str) -> None:
    log.warning("waiting", why=why)


if __name__ == "__main__":
    sys.exit(main())
