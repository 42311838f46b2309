"""Fault after fault on one Millrace under recorded traffic, and after each everything is judged.

    async with fault_rounds(own, folder) as rounds:
        await rounds.meet("kafka", lambda: rounds.kill("kafka"), bound_s=60.0)

A round: every session has been answered; the fault; every session is answered again, and all
processes are ready, within the bound; the traffic ends, the views catch up. Then the history of
the sessions is judged, every check of the demo is made, the owed rows are there, and a replay of
the log equals what is served. Each round is a line of the run's report (`fault_report`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.local.stack import LocalStack
from deploy.local.status import StackStatus
from deploy.local.watch import State
from millrace.errors import StoreUnavailable
from tests.fault_report import REPORT
from tests.recorded_sessions import RecordedSessions, meet
from tests.replayed import differences, replay
from tests.running import RunningMillrace, running
from tests.session_checker import Checker, Verdict, Wrong, answers
from tests.session_history import SessionHistory

_POLL_S = 0.05
# Until calls that were under way have ended, and the views have what they wrote.
_CALM_S = 180.0

Fault = Callable[[], Awaitable[None]]


class FaultRounds:
    """`own`: the servers, whose processes are killed as Millrace's are, by name."""

    def __init__(
        self, own: LocalStack, millrace: RunningMillrace, sessions: RecordedSessions
    ) -> None:
        self.own = own
        self.millrace = millrace
        self.sessions = sessions
        # So long after its end a write that was not answered may be done yet. Who pauses the
        # process that has it adds the pause.
        self.late_s = millrace.settings.append_timeout_s
        self._rounds = 0
        self._ended: set[int] = set()
        self._history = sessions.world.history
        self._writes_judged = 0
        self._reads_judged = 0

    def stack_of(self, name: str) -> LocalStack:
        return self.millrace.supervisor if name in self.millrace.names else self.own

    def pid(self, name: str) -> int:
        return self.stack_of(name).status().pid(name)

    def kill(self, *names: str) -> None:
        """SIGKILL to all of them at once."""
        self._ended |= {self.pid(name) for name in names}
        for name in names:
            self.stack_of(name).kill(name)

    async def ready(self, *names: str) -> None:
        """Until these are ready, none of them as a process that was killed."""
        while not all(self._is_ready(name) for name in names):
            await asyncio.sleep(_POLL_S)

    async def recovering(self, name: str, sign: str) -> bool:
        """Until the process after the killed one says `sign` in its log: True; False where it is
        ready already.
        """
        log = self.stack_of(name).log(name)
        said_before = log.stat().st_size
        while not self._is_ready(name):
            said = log.read_bytes()
            # It begins anew when it has become long.
            new = said[said_before:] if len(said) >= said_before else said
            if self._is_new(name) and sign.encode() in new:
                return True
            await asyncio.sleep(_POLL_S)
        return False

    def _is_ready(self, name: str) -> bool:
        state = self.stack_of(name).status().children[name].state
        return state == State.READY and self._is_new(name)

    def _is_new(self, name: str) -> bool:
        process = self.stack_of(name).status().children[name].process
        return process is not None and process.pid not in self._ended

    async def all_ready(self) -> None:
        await self.ready(*self.own.status().children, *self.millrace.names)

    async def all_answered(self, writes: int = 1) -> None:
        """Until each session had so many more writes acknowledged."""
        before = self.sessions.answered
        while any(
            now < then + writes for now, then in zip(self.sessions.answered, before, strict=True)
        ):
            await asyncio.sleep(_POLL_S)

    async def all_tried(self) -> None:
        """Until each session has had an end of a call that began after now, well or not."""
        tried = [one.tried for one in self.sessions.all]
        while any(one.tried < then + 2 for one, then in zip(self.sessions.all, tried, strict=True)):
            await asyncio.sleep(_POLL_S)

    async def meet(self, name: str, fault: Fault, *, bound_s: float) -> Verdict:
        """One round. Fails when anything is wrong, or not well again after `bound_s`."""
        REPORT.begun += 1
        async with self.sessions.calling():
            async with asyncio.timeout(_CALM_S):
                await self.all_answered()
            await fault()
            began_s = time.monotonic()
            try:
                async with asyncio.timeout(bound_s):
                    await self.all_ready()
                    # Twice: the first may have been on its way before the fault.
                    await self.all_answered(2)
            except TimeoutError:
                states = {
                    **self.own.status().children,
                    **self.millrace.supervisor.status().children,
                }
                told = {one: child.state for one, child in states.items()}
                REPORT.lines.append(f"{name}: not well after {bound_s:.0f} s: {told}")
                raise AssertionError(REPORT.lines[-1]) from None
            recovered_s = time.monotonic() - began_s
        verdict = await self._judged()
        line = f"{name}: well after {recovered_s:.1f} s; {verdict}"
        REPORT.lines.append(line)
        REPORT.total.add(verdict)
        assert verdict.passed, f"{line}\n{verdict.told()}"
        await self._checked(name)
        REPORT.right += 1
        return verdict

    async def _judged(self) -> Verdict:
        await self._calm()
        self._rounds += 1
        try:
            async with asyncio.timeout(_CALM_S):
                await self.sessions.look_at_everything(self._rounds)
        except TimeoutError:
            raise AssertionError(f"not all is answered, and fresh, after {_CALM_S:.0f} s") from None
        history = self._history
        checker = Checker(history.writes, late_s=self.late_s)
        verdict = checker.judge(history.reads[self._reads_judged :])
        # From the first: a request of an earlier round may have been answered again in this one.
        told, earlier = answers(history.writes), answers(history.writes[: self._writes_judged])
        told.acknowledged -= earlier.acknowledged
        told.unknown -= earlier.unknown
        for one, texts in earlier.wrong.items():
            del told.wrong[one][: len(texts)]
        verdict.add(told)
        verdict.wrong[Wrong.REFUSED] += history.refused
        history.refused.clear()
        self._reads_judged, self._writes_judged = len(history.reads), len(history.writes)
        return verdict

    async def _calm(self) -> None:
        """Every view has everything; the test's own connections may have to be made anew."""
        why = "nothing"
        try:
            async with asyncio.timeout(_CALM_S):
                while True:
                    try:
                        return await self.millrace.process_all()
                    except StoreUnavailable as error:
                        why = error.message
                        await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise AssertionError(f"not calm after {_CALM_S:.0f} s: {why}") from None

    async def _checked(self, name: str) -> None:
        millrace = self.millrace
        sessions = [one.session for one in self.sessions.all]
        for check in await millrace.all_checks(sessions, self.sessions.world.record):
            assert check.passed, f"{name}: {check}"
        views, log = millrace.stores.views, millrace.stores.log
        log_id = (await views.positions("likes"))["likes", 0].log_id
        replayed, dead = await replay(log, millrace.keys, log_id)
        assert dead == 0, name
        assert await differences(views, replayed) == [], name


@asynccontextmanager
async def fault_rounds(
    stack: StackStatus, own: LocalStack, folder: Path, **settings: object
) -> AsyncIterator[FaultRounds]:
    """A new Millrace on `stack`, of which the servers in `own` may be killed. `settings`: its own,
    such as the addresses of those servers.
    """
    async with running(stack, folder, **settings) as millrace:  # type: ignore[arg-type]
        history = SessionHistory()
        sessions = await meet(millrace.installation.grpc_address, history)
        try:
            yield FaultRounds(own, millrace, sessions)
        finally:
            await sessions.close()
