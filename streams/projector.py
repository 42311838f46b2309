"""The projector: every view follows its topics. `python -m streams.projector`

Each view has a reader and a loop of its own, so that a slow one delays no other; so has the task
that completes registrations. Several projectors share the partitions by consumer groups; the
positions in PostgreSQL decide.
"""

import asyncio
from collections.abc import Mapping, Sequence

from millrace.auth.sealing import open_secret, open_text
from millrace.errors import StoreUnavailable
from millrace.log.dead import DeadLetters
from millrace.log.port import TopicPartition
from millrace.observe import logs, metrics
from millrace.relations import View
from millrace.views import VIEWS
from millrace.views.data_keys import DataKeys, TextOpener
from streams import registrations
from streams.process import StreamParts, run
from streams.progress import Progress, Published
from streams.projection import Projection

RETRY_S = 0.2

logger = logs.logger("streams.projector")


def projection_of(view: View, parts: StreamParts) -> Projection:
    """A projection on the real log and store."""
    settings = parts.settings
    keys = DataKeys(
        parts.views,
        parts.log,
        parts.clock,
        lambda key, box: open_secret(parts.keys.master, key, box),
        cached_max=settings.data_keys_cached_max,
        wait_s=settings.apply_wait_s,
    )
    return Projection(
        view=view,
        store=parts.views,
        log=parts.log,
        opener=TextOpener(keys, open_text),
        dead=DeadLetters(
            parts.log,
            view.name,
            parts.clock,
            ratio_max=settings.project_dead_ratio_max,
            window_events=settings.project_dead_ratio_events,
        ),
        clock=parts.clock,
    )


async def open_views(
    parts: StreamParts, views: Sequence[View], others: Published
) -> list[Progress]:
    """Every view has its positions, and whoever went back while nobody looked a new epoch."""
    await others.refresh()
    watched = []
    for view in views:
        partitions = {topic: parts.log.partitions_of(topic) for topic in view.topics}
        await parts.views.open_view(view.schema, partitions, parts.identity.log_id)
        known = others.newest.get(view.name)
        progress = Progress(view, parts.views, parts.log, known, others)
        await progress.look()
        watched.append(progress)
    return watched


async def follow(view: View, parts: StreamParts, progress: Progress, back: asyncio.Event) -> None:
    """One view follows its topics until cancelled. Raises what only an operator can mend.

    `back` is set when the view went back: the reader has to go back with it.
    """
    projection = projection_of(view, parts)

    async def went_back() -> None:
        if await progress.look_afresh():
            back.set()

    projection.went_back = went_back

    async def stored(partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await projection.start_positions(partitions)

    reader = parts.log.group_reader(f"view.{view.name}", view.topics, stored)
    applied = metrics.VIEW_EVENTS.labels(view.name)
    lag = metrics.VIEW_LAG.labels(view.name)
    settings = parts.settings
    try:
        while True:
            if back.is_set():
                back.clear()
                for topic, partition in reader.assigned:
                    reader.reread(topic, partition)
            try:
                taken = await projection.step(
                    reader,
                    events_max=settings.project_batch_events,
                    wait_s=settings.project_wait_s,
                )
            except StoreUnavailable as error:
                logger.warning("waiting", view=view.name, why=error.message)
                await parts.clock.sleep(RETRY_S)
                continue
            applied.inc(taken)
            lag.set(sum(reader.lag().values()) + projection.ahead)
    finally:
        await reader.close()


async def watch(
    progresses: Sequence[Progress],
    backs: Mapping[str, asyncio.Event],
    parts: StreamParts,
    others: Published,
) -> None:
    """Five times a second: publish what has changed, and tell the view that went back."""
    while True:
        try:
            # So that there is little to read when it matters.
            await others.refresh()
        except StoreUnavailable as error:
            logger.warning("progress waits", why=error.message)
        for progress in progresses:
            try:
                if await progress.look():
                    backs[progress.view.name].set()
            except StoreUnavailable as error:
                logger.warning("progress waits", why=error.message)
        await parts.clock.sleep(parts.settings.progress_interval_s)


async def main(parts: StreamParts) -> None:
    others = Published(parts.log)
    progresses = await open_views(parts, VIEWS, others)
    backs = {view.name: asyncio.Event() for view in VIEWS}
    async with asyncio.TaskGroup() as tasks:
        for progress in progresses:
            view = progress.view
            following = follow(view, parts, progress, backs[view.name])
            tasks.create_task(following, name=view.name)
        tasks.create_task(watch(progresses, backs, parts, others), name="progress")
        tasks.create_task(registrations.follow(parts), name="registrations")
        parts.ready = True


if __name__ == "__main__":
    run("projector", main)
