"""What the processes of a local stack take while something runs: CPU, memory, descriptors; and how
far the processors are behind.

Memory is what is a process's own (resident, without what it shares with others or maps from files),
so that PostgreSQL's shared buffers and Kafka's mapped indexes are not counted again and again.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.local import status
from millrace.errors import MillraceError
from millrace.views import lag

SAMPLES_MAX = 400
_EVERY_S_MIN = 2.0
_MIB = 1 << 20

# Process ids by name; what they have started counts as theirs.
Pids = Callable[[], Mapping[str, Sequence[int]]]


@dataclass(frozen=True, slots=True)
class Vital:
    """At `at_s` since the start: cores since the sample before, MiB, open files, by process.
    `behind`: records of lag, None where it could not be asked.
    """

    at_s: float
    cores: Mapping[str, float]
    memory_mib: Mapping[str, float]
    descriptors: Mapping[str, int]
    behind: int | None


@dataclass(slots=True)
class Taken:
    cpu_s: float = 0.0
    memory_bytes: int = 0
    descriptors: int = 0


class Vitals:
    """`samples` while `watch` runs, at most `SAMPLES_MAX`."""

    def __init__(self, pids: Pids, seconds: float, meter: lag.LagMeter | None = None) -> None:
        self.samples: list[Vital] = []
        self._pids = pids
        self._every_s = max(_EVERY_S_MIN, seconds / SAMPLES_MAX)
        self._meter = meter

    async def watch(self) -> None:
        """Until cancelled."""
        start_s = time.monotonic()
        before, before_s = await asyncio.to_thread(taken_by, self._pids()), start_s
        while len(self.samples) < SAMPLES_MAX:
            await asyncio.sleep(self._every_s)
            taken, behind = await asyncio.gather(
                asyncio.to_thread(taken_by, self._pids()), self._behind()
            )
            now_s = time.monotonic()
            self.samples.append(
                Vital(
                    at_s=round(now_s - start_s, 1),
                    cores={
                        name: round(max(one.cpu_s - before[name].cpu_s, 0) / (now_s - before_s), 3)
                        for name, one in taken.items()
                        if name in before
                    },
                    memory_mib={n: round(one.memory_bytes / _MIB, 1) for n, one in taken.items()},
                    descriptors={name: one.descriptors for name, one in taken.items()},
                    behind=behind,
                )
            )
            before, before_s = taken, now_s

    async def _behind(self) -> int | None:
        if self._meter is None:
            return None
        try:
            return (await self._meter.measure()).total
        except MillraceError:
            return None


def pids_of_stack(file: Path) -> dict[str, list[int]]:
    """The children that the launcher of this stack.json has now; none where there is none."""
    stack = status.read(file)
    children = stack.children.items() if stack else ()
    return {name: [one.process.pid] for name, one in children if one.process}


def taken_by(pids: Mapping[str, Sequence[int]]) -> dict[str, Taken]:
    """What each of them, with all that it has started, has taken; nothing for one that is gone."""
    children: dict[int, list[psutil.Process]] = {}
    processes = {process.pid: process for process in psutil.process_iter(["ppid"])}
    for process in processes.values():
        children.setdefault(process.info["ppid"], []).append(process)
    found = {}
    for name, those in pids.items():
        taken = found[name] = Taken()
        left = [processes[pid] for pid in those if pid in processes]
        while left:
            process = left.pop()
            left += children.get(process.pid, [])
            # One that ended meanwhile counts no more.
            with contextlib.suppress(psutil.Error):
                _add(taken, process)
    return found


def _add(taken: Taken, process: psutil.Process) -> None:
    with process.oneshot():
        times, memory = process.cpu_times(), process.memory_info()
        taken.cpu_s += times.user + times.system
        taken.memory_bytes += memory.rss - memory.shared
        taken.descriptors += process.num_fds()
