"""What waits while a replay of edges is slowed."""

import asyncio
from collections.abc import Mapping
from typing import Any

from millrace.log.memory import MemoryLog
from millrace.settings import Settings
from millrace.stores.edge_columns import EdgeColumns
from millrace.views.likes import VIEW
from streams.replay_load import Loading
from tests.histories import PARTITIONS, History, write

EVENTS = 25


class SlowCopy:
    """Stands for an `EdgeLoad`."""

    def __init__(self) -> None:
        self.under_way = False
        self.copied = 0

    async def put(self, changed: Mapping[str, EdgeColumns], *_: object) -> None:
        self.under_way = True
        for _turn in range(20):
            await asyncio.sleep(0)
        self.copied += sum(columns.sources.size for columns in changed.values())
        self.under_way = False


class NoLetters:
    def count(self, events: int) -> None: ...


async def test_no_copy_goes_on_while_it_is_made_to_wait() -> None:
    log, places = MemoryLog(PARTITIONS), range(PARTITIONS)
    for user in range(1, EVENTS + 1):
        record = write(History(), ("like", user, 7))
        await log.append(record.topic, record.key, record.value)
    load: Any = SlowCopy()
    letters: Any = NoLetters()
    settings = Settings(replay_batch_events=4)
    at = {("likes", partition): 0 for partition in places}
    loading = Loading(VIEW, log, load, letters, set(), settings, at)  # type: ignore[arg-type]
    waited = 0

    async def done(_events: int) -> None:
        nonlocal waited
        for _turn in range(40):
            assert not load.under_way
            await asyncio.sleep(0)
        waited += 1

    await loading.run({place: log.end(*place) for place in at}, done)
    assert load.copied == EVENTS
    assert waited >= EVENTS // 4
