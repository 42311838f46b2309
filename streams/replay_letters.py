"""What a replay could not take: noted beside the tables that it builds, and written nowhere else.

Above the ratio of dead letters it stops, as a projector does: then the code is wrong, not the data.
What became a letter of the served view is passed over, too, even where today's code could take it:
when it was tried again it came at another place, with another number.
"""

from collections.abc import Sequence
from dataclasses import replace

from millrace.errors import PoisonEvent
from millrace.log.codec import Event
from millrace.log.dead import DeadRatio
from millrace.log.letters import PassedOver
from millrace.log.port import Record
from millrace.relations import View
from millrace.settings import Settings
from millrace.stores.changes import Change
from millrace.stores.postgres_beside import Beside, DeadFound


class ReplayLetters:
    """Implements `streams.projection.Letters`."""

    def __init__(self, beside: Beside, settings: Settings) -> None:
        self._beside = beside
        self._ratio = DeadRatio(settings.project_dead_ratio_max, settings.project_dead_ratio_events)

    async def put(self, record: Record, reason: str) -> None:
        """Noted before it is passed over. Raises FailedPrecondition when there are too many."""
        await self._beside.bury([self.noted(record, reason)])

    def noted(self, record: Record, reason: str) -> DeadFound:
        """Counts one more, for a caller who notes it himself. Raises as `put`."""
        self._ratio.check()
        self._ratio.count_dead()
        return DeadFound(record.topic, record.partition, record.number, reason)

    def count(self, events: int) -> None:
        self._ratio.count(events)


def without_letters(view: View, passed_over: PassedOver) -> View:
    """The same view, for which the letters of the served one are poison."""
    project = view.project

    def alive(event: Event) -> Sequence[Change]:
        if (event.topic, event.partition, event.number) in passed_over:
            raise PoisonEvent("a dead letter of the served view")
        return project(event)

    return replace(view, project=alive, plain=None)
