"""One's own account on the real servers: another handle, another password, away and back."""

import pytest

from millrace.client import Session
from millrace.errors import AlreadyExists, FailedPrecondition, Unauthenticated
from tests.replayed import differences, replay
from tests.running import PASSWORD, RunningMillrace, running_millrace

__all__ = ["running_millrace"]

pytestmark = pytest.mark.timeout(240)

OTHER = "another horse"


async def test_an_account_is_renamed_locked_left_and_taken_up_again(
    running_millrace: RunningMillrace,
) -> None:
    client = running_millrace.client
    ana = await client.register("ana", PASSWORD)
    ben = await client.register("ben", PASSWORD)
    phone = await client.log_in("ana", PASSWORD)

    async def shown(*handles: str) -> list[tuple[int, str]]:
        users = (await client.get_users(ben, handles=handles)).users
        return [(user.id, user.handle) for user in users]

    async def opens(session: Session) -> bool:
        try:
            await client.get_users(session, [ben.user_id])
        except Unauthenticated:
            return False
        return True

    with pytest.raises(AlreadyExists):
        await client.change_handle(ana, "BEN")
    await client.change_handle(ana, "ana.b")
    assert await shown("ana", "ana.b") == [(ana.user_id, "ana.b")]
    cem = await client.register("ana", PASSWORD)
    assert await shown("ana") == [(cem.user_id, "ana")]

    assert await client.change_password(ana, PASSWORD, OTHER)
    assert await opens(ana)
    assert not await opens(phone)
    with pytest.raises(Unauthenticated):
        await client.log_in("ana.b", PASSWORD)

    # Every process anew: what holds is in the log and the views.
    await running_millrace.kill(*running_millrace.names)
    assert await client.deactivate_user(ana)
    assert await shown("ana.b") == []
    again = await client.log_in("ana.b", OTHER)
    with pytest.raises(FailedPrecondition):
        await client.get_users(again, [ben.user_id])
    await client.reactivate_user(again)
    assert await opens(again)
    assert await shown("ana.b") == [(ana.user_id, "ana.b")]
    assert await client.log_out(again, all_sessions=True)
    assert not await opens(again)

    await running_millrace.process_all()
    views, log = running_millrace.stores.views, running_millrace.stores.log
    log_id = (await views.positions("users"))["users", 0].log_id
    replayed, dead = await replay(log, running_millrace.keys, log_id)
    assert await differences(views, replayed) == []
    assert dead == 0
