"""`millrace owed`: is each row there that the fan-out owes?"""

import asyncio

from cli.settings_of import DataDir, settings_of_running
from cli.stores import open_stores
from millrace.clock import SystemClock
from millrace.errors import MillraceError
from millrace.settings import Settings
from millrace.views import lag
from streams.owed_rows import OwedRows, check_owed_rows

_CATCH_UP_S = 60.0


def owed(data: DataDir = None) -> None:
    """Wait for the fan-out, then look for every row that a plan owes; fails for a missing one,
    and for a post that was never planned.
    """
    found = asyncio.run(_owed(settings_of_running(data)))
    print(f"{found.checked:,} rows owed, {found.missing_count:,} missing")
    if found.unplanned_count:
        shown = ", ".join(map(str, found.unplanned))
        raise MillraceError(f"{found.unplanned_count:,} posts were never planned: {shown}")
    if found.missing_count:
        shown = ", ".join(f"{row.media_id} for {row.user_id}" for row in found.missing)
        raise MillraceError(f"missing rows: {shown}")


async def _owed(settings: Settings) -> OwedRows:
    async with open_stores(settings) as stores:
        await lag.wait_until_none(stores, SystemClock(), timeout_s=_CATCH_UP_S)
        return await check_owed_rows(stores.log, stores.views, stores.feeds, missing_max=10)
