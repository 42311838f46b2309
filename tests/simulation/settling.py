"""All faults end, and everybody catches up with the log: then everything must hold."""

from millrace.views import VIEWS
from social.log.v1.feed_pb2 import FeedMark
from tests.simulation.loop import TURNS_MAX
from tests.simulation.process import Fanout
from tests.simulation.world import GROUPS, PARTITIONS, RECORDS_MAX, World

STEP_S = 0.5
STEPS_MAX = 400
TURNS_AT_ONCE = 50


def settle(world: World) -> None:
    """What stands still is wrong, and so is who never comes to rest."""
    _mend(world)
    for _ in range(STEPS_MAX):
        _rest(world)
        if world.wrongs or (world.quiet and not behind(world)):
            return
        world.do(("pass", STEP_S))
    world.wrong(f"stands still: {behind(world)}")


def _mend(world: World) -> None:
    world.away.clear()
    for clock in world.clocks:
        clock.skew_ms = 0
    for process in world.processes.values():
        process.paused = False
        process.start()
        process.faults.clear()
        process.clock.skew_ms = 0
    for group in world.groups.values():
        group.share(0b101)


def _rest(world: World) -> None:
    """Every part in turn, until none has anything to do before time passes."""
    left, done = TURNS_MAX, 1
    while done and left > 0:
        lanes = [lane for process in world.processes.values() for lane in process.lanes.values()]
        done = sum([world.loop.turns(lane, TURNS_AT_ONCE) for lane in lanes])
        left -= done
        for process in world.bury():
            process.start()
            done += 1
    if done:
        world.wrong("never comes to rest")


def behind(world: World) -> str:
    """The first that has not caught up; empty when all have."""
    for view, topics in (*((v.name, v.topics) for v in VIEWS), ("registrations", ("names",))):
        for topic in topics:
            for partition in range(PARTITIONS):
                at = world.views.position(view, (topic, partition))
                if at < world.log.end(topic, partition):
                    return f"view {view} is at {at} of {topic}/{partition}"
    for process in world.processes.values():
        if isinstance(process, Fanout) and not process.knows_where_to_begin:
            return f"{process.name} does not know where to begin"
    planned = _planned(world)
    for partition in range(PARTITIONS):
        if planned.get(partition, 0) < world.log.end("media", partition):
            return f"media/{partition} is planned up to {planned.get(partition, 0)}"
        for topic in GROUPS["fanout"]:
            at = world.feeds.saved("delivery", (topic, partition))
            if at < world.log.end(topic, partition):
                return f"{topic}/{partition} is delivered up to {at}"
    return ""


def _planned(world: World) -> dict[int, int]:
    planned: dict[int, int] = {}
    for record in world.log.after("feed_marks", 0, 0, RECORDS_MAX):
        mark = FeedMark.FromString(record.value or b"")
        planned[mark.partition] = max(planned.get(mark.partition, 0), mark.planned)
    return planned
