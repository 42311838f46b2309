"""Personal text of users on its way into the log: sealed with their data keys."""

from google.protobuf.message import Message

from millrace.auth.sealing import seal_text
from millrace.errors import FailedPrecondition
from services.parts import Parts
from social.log.v1.sealed_pb2 import Sealed


async def sealed(parts: Parts, owner_id: int, text: Message) -> Sealed:
    """`text`: one of the log's *Text messages. Raises FailedPrecondition when the owner's data
    key was destroyed.
    """
    data_key = await parts.data_keys.of(owner_id)
    if data_key is None:
        raise FailedPrecondition("this account has been erased", reason="USER_ERASED")
    return seal_text(data_key, owner_id, text)
