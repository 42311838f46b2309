"""The fan-out: plans posts and delivers their rows into feeds. `python -m streams.fanout`

The planner (a reader of our own, whose marks say where it was) runs beside the Faust app that
delivers, in one process and one loop. Several such processes share the partitions by groups.
"""

import asyncio

from millrace.errors import FailedPrecondition, StoreUnavailable, TablesGone
from millrace.log.dead import DeadLetters
from millrace.log.marks import Marks
from millrace.observe import logs
from millrace.startup import until_answered
from millrace.stores.cassandra import CassandraFeedStore, open_feed_store
from millrace.stores.feed_port import FeedStore
from millrace.views import follows, media
from streams.delivery import Delivery
from streams.delivery_app import DeliveryApp, leave
from streams.planner import SOURCE, Planner
from streams.process import StreamParts, run, waiting
from streams.stepping_back import NodeWatch

RETRY_S = 0.5

logger = logs.logger("streams.fanout")


async def plan(parts: StreamParts) -> None:
    """Plan posts until cancelled."""
    marks = Marks(parts.log)
    planner = Planner(parts.log, parts.views, parts.clock, parts.settings, marks)
    reader = parts.log.group_reader("planner", (SOURCE,), planner.start_positions)
    try:
        while True:
            try:
                await planner.step(reader, parts.settings.project_wait_s)
            except StoreUnavailable as error:
                logger.warning("planner waits", why=error.message)
                await parts.clock.sleep(RETRY_S)
    finally:
        await reader.close()
        await marks.close()


async def deliver(parts: StreamParts, feeds: CassandraFeedStore) -> None:
    """Deliver chunks until cancelled; then stop in order and save the positions."""
    settings = parts.settings
    dead = DeadLetters(
        parts.log,
        "feed",
        parts.clock,
        ratio_max=settings.project_dead_ratio_max,
        window_events=settings.project_dead_ratio_events,
    )
    delivery = Delivery(feeds, dead, parts.clock, NodeWatch(settings.node_silent_s))
    running = DeliveryApp(delivery, settings)
    await running.app.start()
    waiting = False
    try:
        while True:
            await parts.clock.sleep(settings.gossip_check_interval_s)
            running.look_after()
            parts.ready = running.placed
            waiting = await _keep(delivery, waiting)
    finally:
        await running.stop()
        await _keep(delivery)


async def _keep(delivery: Delivery, waited: bool = False) -> bool:
    """Whether the positions have to wait; says so once."""
    try:
        if not await delivery.keep():
            # Nothing is saved from here on: the next start reads where to step back to.
            leave("a node of the feed store came back")
    except TablesGone as error:
        # The next start makes tables, finds no position, and delivers all that the log keeps.
        leave("the feed store was emptied", error)
    except StoreUnavailable as error:
        if not waited:
            logger.warning("positions wait", why=error.message)
        return True
    return False


async def main(parts: StreamParts) -> None:
    feeds = await until_answered(lambda: open_feed_store(parts.settings), waiting)
    try:
        await until_answered(lambda: check_log(feeds, parts.identity.log_id), waiting)
        await _views_are_open(parts)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(plan(parts), name="plan")
            tasks.create_task(deliver(parts, feeds), name="deliver")
    finally:
        await feeds.close()


async def check_log(feeds: FeedStore, log_id: int) -> None:
    """Raises FailedPrecondition where the feed store holds positions of another log: delivery
    would skip as many chunks of this one.
    """
    if await feeds.log_id(log_id) != log_id:
        raise FailedPrecondition(
            "the feed store belongs to another log", reason="FEEDS_OF_ANOTHER_LOG"
        )


async def _views_are_open(parts: StreamParts) -> None:
    """The projector opens them; before that their positions mean nothing."""
    for view in (media.VIEW, follows.VIEW):
        while not await _is_open(parts, view.name):
            await parts.clock.sleep(RETRY_S)


async def _is_open(parts: StreamParts, view: str) -> bool:
    try:
        stored = await parts.views.positions(view)
    except StoreUnavailable:
        return False
    if any(row.log_id != parts.identity.log_id for row in stored.values()):
        raise FailedPrecondition(f"view {view} belongs to another log")
    return bool(stored)


if __name__ == "__main__":
    run("fanout", main)
