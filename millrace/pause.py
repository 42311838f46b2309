"""How long what comes at the same time is gathered, so that it shares one read or one request.

The more was gathered, the longer the next pause: a read costs a gRPC process as much CPU time as
ten of its keys, and time is what a busy process lacks. What stays below `MANY` a pause is not
kept waiting for longer than the setting says, and who comes alone waits for nothing.
"""

MANY = 6
LONGER_MAX = 2.5


def pause_after(gathered: int, pause_s: float) -> float:
    """Seconds until the next turn, after one of so many; `pause_s` to `LONGER_MAX` times that."""
    if gathered <= 1:
        return 0.0
    return pause_s * min(max(gathered / MANY, 1.0), LONGER_MAX)
