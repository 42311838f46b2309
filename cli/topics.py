"""`millrace topics`: the log's topics."""

import asyncio

from rich.console import Console
from rich.table import Table

from cli.settings_of import DataDir, settings_of_running
from millrace.log.create import create_log
from millrace.log.kafka import KafkaLog
from millrace.log.topics import FOREVER_MS, TOPICS, Topic
from millrace.settings import Settings

_DAY_MS = 24 * 3600 * 1000


def topics(data: DataDir = None) -> None:
    """Create the topics that are missing; list all with their size."""
    settings = settings_of_running(data)
    table = Table("topic", "partitions", "kept", "events")
    for topic, partitions, events in asyncio.run(_sizes(settings)):
        table.add_row(
            settings.topic_prefix + topic.name, str(partitions), _kept(topic), str(events)
        )
    Console().print(table)


async def _sizes(settings: Settings) -> list[tuple[Topic, int, int]]:
    await create_log(settings)
    log = KafkaLog(settings)
    try:
        return [
            (topic, log.partitions_of(topic.name), sum(await log.ends(topic.name)))
            for topic in TOPICS.values()
        ]
    finally:
        await log.close()


def _kept(topic: Topic) -> str:
    if topic.compacted:
        return "newest of each key"
    return "for ever" if topic.retention_ms == FOREVER_MS else f"{topic.retention_ms // _DAY_MS} d"
