"""Python's garbage collector, told that this process lives long.

It looks for cycles whenever 700 more objects live than when it last looked, and now and then among
all objects of the process. A batch of events is thousands of objects without cycles, which
reference counting frees by itself: looking at them cost more than half of a projection's CPU time
(11.5 µs an event, 4.3 with this), and a look at everything is a pause of every call.
"""

import gc


def settle(objects: int) -> None:
    """Once, when the process is about to begin its work: what lives now counts as staying for
    ever, and from now on it looks each time `objects` more live.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(objects, *gc.get_threshold()[1:])
