"""A member of a group as a process of its own, for tests that kill it.

    python group_member.py FOLDER GROUP WORKER < Settings as JSON

Views are files: FOLDER/likes-P holds the numbers that were applied of partition P, one a line, so
its last line is the stored position. FOLDER/worker-W holds W's partitions, a line a change.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from millrace.log.kafka import KafkaLog
from millrace.log.port import TopicPartition
from millrace.settings import Settings

TOPIC = "likes"


def applied(folder: Path, partition: int) -> list[int]:
    view = folder / f"{TOPIC}-{partition}"
    return [int(line) for line in view.read_text().split()] if view.exists() else []


def shares(folder: Path, worker: int) -> list[list[int]]:
    """The partitions that a worker has had, in the order of the changes."""
    file = folder / f"worker-{worker}"
    lines = file.read_text().splitlines() if file.exists() else []
    return [[int(number) for number in line.split()] for line in lines]


async def follow(folder: Path, group: str, settings: Settings) -> None:
    async def stored(of: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        with (folder / f"worker-{settings.worker}").open("a") as file:
            file.write(" ".join(str(partition) for _, partition in of) + "\n")
        return {place: max(applied(folder, place[1]), default=0) for place in of}

    reader = KafkaLog(settings).group_reader(group, [TOPIC], stored)
    while True:
        for record in await reader.batch(100, 0.2):
            with (folder / f"{TOPIC}-{record.partition}").open("a") as view:
                view.write(f"{record.number}\n")


if __name__ == "__main__":
    given = Settings.model_validate_json(sys.stdin.read())
    asyncio.run(follow(Path(sys.argv[1]), sys.argv[2], given))
