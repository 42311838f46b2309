"""SIGKILL under traffic: nothing acknowledged is lost or doubled, and every view is right."""

import pytest

from tests.replayed import differences, replay
from tests.running import RunningMillrace, running_millrace
from tests.steady_traffic import steady_traffic

__all__ = ["running_millrace"]

pytestmark = pytest.mark.timeout(300)


async def test_every_process_killed_alone_and_all_at_once(
    running_millrace: RunningMillrace,
) -> None:
    millrace = running_millrace
    kills = 0
    async with steady_traffic(millrace, seed=11, rate=20.0) as traffic:
        for name in millrace.names:
            await millrace.kill(name)
            kills += 1
        await millrace.kill(*millrace.names)
        kills += len(millrace.names)
    record = traffic.record

    sessions = [actor.session for actor in traffic._cast.online()]
    for check in await millrace.all_checks(sessions, record):
        assert check.passed, check
        print(f"{check.claim}: {check.examined} examined, {check.wrong_count} wrong")
    views, log = millrace.stores.views, millrace.stores.log
    log_id = (await views.positions("likes"))["likes", 0].log_id
    replayed, dead = await replay(log, millrace.keys, log_id)
    assert await differences(views, replayed) == []
    assert dead == 0
    print(f"{kills} kills, {record.tally.ended} calls")
