"""The demo, step by step: servers, graph, traffic, catching up, checks, one person's feed."""

import asyncio
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import psutil

from cli import data_folder
from cli.contact_sheet import Card, draw_feed
from cli.cpu import cpu_seconds, spent
from cli.demo_report import DemoReport
from cli.installation import environment_of, prepare_own, start_processes
from cli.processes import ROOT
from cli.steps import Step, Steps
from cli.stored_checks import stored_checks
from cli.stores import OpenStores, open_stores
from deploy.local import status
from deploy.local.stack import LocalStack, StackSettings
from millrace.auth.keys import Keys, load_keys
from millrace.client import Client
from millrace.clock import SystemClock
from millrace.errors import FailedPrecondition
from millrace.traffic.actors import Actor, Cast
from millrace.traffic.check import Check
from millrace.traffic.checks import Checks
from millrace.traffic.graph import read_graph
from millrace.traffic.graph_load import load_graph
from millrace.traffic.history import History, read_history
from millrace.traffic.pictures import posts
from millrace.traffic.plan import Plan, make_plan
from millrace.traffic.record import Record
from millrace.traffic.report import report_of
from millrace.traffic.run import Post, Traffic
from millrace.traffic.served_checks import feed_of
from millrace.views import lag
from social.v1 import media_pb2

BUILD = ROOT / "build" / "demo"
GRAPH = ROOT / "tests" / "data" / "twitch-pt.follows.gz"
PICTURES = ROOT / "tests" / "data" / "pictures"
_CATCH_UP_S = 120.0
_SHOWN = 12
_CONNECTIONS = 12
_TICK_S = 0.25


class DemoRun:
    """One run. What it finds goes into `report`; the shown feed is there afterwards."""

    def __init__(self, report: DemoReport, steps: Steps) -> None:
        self.report = report
        self.shown_handle = ""
        self.shown_items: list[media_pb2.MediaItem] = []
        self._children: list[psutil.Process] = []
        self._steps = steps
        self._clock = SystemClock()

    async def run(self) -> None:
        """Raises ChildFailed when a process cannot be kept alive."""
        running = status.read(BUILD / "data")
        if running is not None and running.running():
            raise FailedPrecondition(f"a demo is running in {BUILD}")
        data_folder.remove(BUILD / "data")
        shutil.rmtree(BUILD, ignore_errors=True)
        stack = LocalStack(StackSettings(data_dir=BUILD / "data"), report=self._told)
        with self._steps.shown(), ExitStack() as starting:
            starting.enter_context(self._step("servers"))

            async def work() -> None:
                starting.close()
                await self._work(stack)

            await stack.serve(work)

    def left(self) -> list[str]:
        """Names of child processes that outlived the run."""
        return [process.name() for process in self._children if process.is_running()]

    async def _work(self, stack: LocalStack) -> None:
        with self._step("keys, topics, tables") as step:
            settings = await prepare_own(environment_of(stack), told=step.note)
        following = read_graph(GRAPH)
        plan = self._plan(following)
        drawing = asyncio.create_task(asyncio.to_thread(self._posts, plan.uploads))
        async with open_stores(settings) as stores:
            with self._step("processes, and the graph into the log") as step:
                keys = load_keys(settings.keys_dir)
                installation, user_ids = await asyncio.gather(
                    start_processes(stack, environment_of(stack), settings),
                    load_graph(stores.log, keys, self._clock, settings, following, step.note),
                )
            with self._step("views catch up with the graph"):
                await lag.wait_until_none(stores, self._clock, timeout_s=_CATCH_UP_S)
            with self._step("pictures"):
                pictures = await drawing
            self._children = psutil.Process().children(recursive=True)
            client = Client(installation.grpc_address, connections=_CONNECTIONS)
            try:
                cast = Cast(client, user_ids, run=f".{secrets.token_hex(2)}")
                before = cpu_seconds(stack)
                traffic = Traffic(client, cast, plan, pictures)
                record = await self._traffic(traffic, plan)
                self.report.cpu_s = spent(before, cpu_seconds(stack))
                await self._catch_up(stores)
                self.report.restarts = _restarts(stack)
                history = await self._check(client, cast, record, stores, keys)
                await self._show(client, cast, history)
            finally:
                await client.close()

    def _plan(self, following: Sequence[Sequence[int]]) -> Plan:
        asked = self.report.parameters
        self.report.graph = {"people": len(following), "follows": sum(map(len, following))}
        return make_plan(
            following,
            seed=asked["seed"],
            seconds=asked["seconds"],
            rate=asked["rate"],
            actors=asked["actors"],
        )

    def _posts(self, count: int) -> list[Post]:
        return [
            Post(data, caption)
            for data, caption in posts(PICTURES, count, self.report.parameters["seed"])
        ]

    async def _traffic(self, traffic: Traffic, plan: Plan) -> Record:
        with self._step("traffic", total=plan.seconds) as step:
            running = asyncio.create_task(traffic.run())
            start_s = time.monotonic()
            while not running.done():
                await asyncio.wait({running}, timeout=_TICK_S)
                answered = traffic.record.tally.ended
                note = f"{answered:,} answered, {traffic.outstanding} under way"
                step.at(min(time.monotonic() - start_s, plan.seconds), note)
            record = running.result()
        self.report.traffic = report_of(record)
        return record

    async def _catch_up(self, stores: OpenStores) -> None:
        with self._step("processors catch up"):
            behind = await lag.measure(stores)
            self.report.lag_after_traffic = behind.as_dict()
            start_s = time.monotonic()
            await lag.wait_until_none(stores, self._clock, timeout_s=_CATCH_UP_S)
            self.report.caught_up_s = round(time.monotonic() - start_s, 2)

    async def _check(
        self, client: Client, cast: Cast, record: Record, stores: OpenStores, keys: Keys
    ) -> History:
        with self._step("the log is read into the oracle"):
            history = await read_history(stores.log, keys.master)
            self.report.log = dict(history.events)
        sessions = [actor.session for actor in cast.online()]
        with self._step("checks") as step:
            async for check in Checks(client, sessions, record, history).all():
                self._checked(check, step)
            async for check in stored_checks(stores, history):
                self._checked(check, step)
        return history

    def _checked(self, check: Check, step: Step) -> None:
        self.report.checks.append(check)
        step.note(f"{len(self.report.checks)}: {check.claim}")

    async def _show(self, client: Client, cast: Cast, history: History) -> None:
        """The feed with the most authors, as text and as a contact sheet."""
        with self._step("one person's feed"):
            actor = max(cast.online(), key=lambda one: _variety(history, one.user_id))
            items = [item async for item in feed_of(client, actor.session)]
            self.shown_items = items
            self.shown_handle = cast.handle_of(actor)
            cards = await asyncio.gather(*(_card(client, actor, item) for item in items[:_SHOWN]))
            subtitle = (
                f"{len({item.author.id for item in items})} authors · {len(items)} media · "
                f"the newest {len(cards)}, as downloaded"
            )
            draw_feed(BUILD / "feed.png", f"{self.shown_handle}'s feed", subtitle, cards)

    @contextmanager
    def _step(self, name: str, total: float | None = None) -> Iterator[Step]:
        start_s = time.monotonic()
        with self._steps.step(name, total) as step:
            yield step
        self.report.seconds[name] = round(time.monotonic() - start_s, 2)

    def _told(self, text: str) -> None:
        self._steps.console.print(text, markup=False, highlight=False)


async def _card(client: Client, actor: Actor, item: media_pb2.MediaItem) -> Card:
    _, data = await client.download(actor.session, item.id)
    return Card(data, item.author.handle, item.caption, item.likes_count, item.viewer_likes)


def _variety(history: History, user_id: int) -> tuple[int, int]:
    """Authors on the page that is drawn, then how many of it the user likes."""
    shown = history.oracle.feed(user_id)[:_SHOWN]
    liked = sum(user_id in history.oracle.likers[media_id] for media_id in shown)
    return len({history.oracle.media[media_id].author_id for media_id in shown}), liked


def _restarts(stack: LocalStack) -> int:
    return sum(child.restarts for child in stack.status().children.values())
