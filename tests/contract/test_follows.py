"""FollowsService as a client sees it."""

from typing import Any

from social.v1 import follows_pb2 as pb
from social.v1 import follows_pb2_grpc
from tests.serving import new_request_id, refusal, serving


async def test_a_retry_succeeds_although_nobody_more_can_be_followed() -> None:
    """Its first answer may have been lost: a refusal would tell that nothing was done."""
    async with serving(followees_max=1) as world:
        ana, ben, cem = [await world.register(name) for name in ("ana", "ben", "cem")]
        follows: Any = follows_pb2_grpc.FollowsServiceStub(world.channel)
        request = pb.FollowRequest(request_id=new_request_id(), user_id=ben.user_id)
        for _ in range(2):
            await follows.Follow(request, metadata=ana.metadata)
            await world.process_all()
        another = pb.FollowRequest(request_id=new_request_id(), user_id=cem.user_id)
        refused = await refusal(follows.Follow(another, metadata=ana.metadata))
        assert refused.reason == "FOLLOWEES_LIMIT"
