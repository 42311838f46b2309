"""How many files and connections this process may have open."""

import resource

from millrace.observe.logs import logger
from millrace.settings import Settings

# Stores, the log, uploads on disk, workers.
_OTHERS = 1_000
log = logger("services.descriptors")


def take_descriptors(settings: Settings) -> None:
    """As many as the system grants. At its limit gRPC leaves new connections waiting and goes on
    with those it has; better that `grpc_connections_max` is reached first.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.grpc_connections_max + _OTHERS
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if granted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if max(granted, soft) < wanted:
        log.warning("few descriptors", granted=max(granted, soft), wanted=wanted)
