"""Faust: commits over one unacknowledged event at the head, so that a restart loses it.

`_new_offset` decides what is committed. Nothing else of the consumer is needed to ask it.
"""

from types import SimpleNamespace
from typing import Any

from faust.transport.consumer import Consumer
from faust.types import TP

from tests.upstream.servers import ended

PLACE = TP("likes", 0)
COMMITTED = 100
# 100 is still being worked on; 101 to 103 are done.
consumer: Any = SimpleNamespace(
    _acked={PLACE: [101, 102, 103]},
    _acked_index={PLACE: {101, 102, 103}},
    _committed_offset={PLACE: COMMITTED},
    _gap={PLACE: []},
)
found = Consumer._new_offset(consumer, PLACE)
print(f"100 is not acknowledged, 101 to 103 are: commits {found}")
ended(found is not None and found > COMMITTED, "an event at the head is committed unacknowledged")
