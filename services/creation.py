"""A creation happens once a request: mint an id, append the event, ask the view whose it is.

The first event of (actor, request_id) that finds its id free counts, whoever asks how often and
in which process. Killed at any line, a retry finds what the first try created, or creates it.
"""

from collections.abc import Awaitable, Callable

from millrace.errors import AlreadyExists, OutcomeUnknown
from millrace.log.partitioner import key_of, partition_of
from millrace.log.port import Appended
from millrace.relations import Entity, View
from services.call import Call

# An id clashes when two processes mint in one millisecond for one partition; rarely, and never
# so often.
MINTS_MAX = 5


async def created_before(call: Call, entity: Entity, request_id: bytes, body: bytes) -> int | None:
    """The id that this request of the actor has created, as far as the view knows.

    Raises AlreadyExists where the request had another body. `body`: its SHA-256.
    """
    claim = await entity.claimed_by(call.parts.views, call.user_id, request_id)
    if claim is not None and claim.body != body:
        raise AlreadyExists(
            "this request_id was used with another body", reason="REQUEST_ID_REUSED"
        )
    return claim.key if claim is not None else None


async def create(
    call: Call,
    view: View,
    entity: Entity,
    request_id: bytes,
    body: bytes,
    append: Callable[[int], Awaitable[Appended]],
) -> int:
    """The id that the request created, now or in another try. `append` writes the event of an id.

    Raises AlreadyExists as `created_before`, and OutcomeUnknown when the view does not apply the
    event in time.
    """
    parts = call.parts
    partition = partition_of(key_of(call.user_id), parts.log.partitions)
    for _ in range(MINTS_MAX):
        appended = await append(parts.ids.mint(partition))
        await call.applied(view, appended)
        created = await created_before(call, entity, request_id, body)
        if created is not None:
            return created
        # The id was taken: nothing happened. Mint again under the same request_id.
    raise OutcomeUnknown("every id that was minted was taken")
