"""Whether this process gets a core before what shares its machine.

A refusal takes 0.2 ms of a core, and as long as the process waits for one: beside stores,
processors and a load on two cores that was 300 ms, with this priority 10 (docs/overload.md).
"""

import contextlib
import os
from pathlib import Path

# Linux divides the cores among sessions first, where no control group says otherwise, and heeds
# the niceness of their processes only within each.
_SESSION = Path("/proc/self/autogroup")


def take_first_turn() -> bool:
    """A turn before all that is not real time, before there are threads, since they inherit it.
    False where the system does not allow it: it wants root, or CAP_SYS_NICE.
    """
    try:
        lowest = os.sched_get_priority_min(os.SCHED_RR)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(lowest))
    except OSError:
        return False
    return True


def take_priority(nice: int) -> bool:
    """Before there are threads, since they inherit it. False where the system does not allow it:
    below 0 it wants root, or CAP_SYS_NICE and CAP_SYS_ADMIN.
    """
    if not nice:
        return True
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError:
        return False
    if os.getsid(0) == os.getpid():
        # Whose session is another's has no say in it.
        with contextlib.suppress(OSError):
            _SESSION.write_text(str(nice))
    return True
