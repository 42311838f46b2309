"""What `millrace up` shows: processes, health, ports, lag, and the last words of the dead.

On a terminal one table that is drawn anew; elsewhere a line for each change. What is told, and
how to call it, stays above the table: it can be read again, and pasted, on any terminal.
"""

import asyncio
import shlex
import sys
from contextlib import suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.installation import Installation
from cli.stores import open_stores
from deploy.local.stack import LocalStack
from deploy.local.status import ChildStatus
from millrace.errors import MillraceError
from millrace.views import lag

_DRAW_S = 1.0
_STYLES = {
    "ready": "green",
    "failed": "bold red",
    "backing off": "red",
    "starting": "yellow",
    "waiting": "dim",
}


class LiveView:
    """`run` until cancelled; `tell` a notice (of a death, of a step) at any time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._installation: Installation | None = None
        self._opened = asyncio.Event()
        self._lag: lag.Lag | str = "unknown"
        self._printed: dict[str, str] = {}

    def tell(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def opened(self, installation: Installation) -> None:
        """From now on with ports, lag, and how to call it."""
        self._installation = installation
        self._opened.set()
        self.tell(how_to_call(installation.grpc_address))

    async def run(self, stack: LocalStack) -> None:
        measuring = asyncio.create_task(self._measure())
        try:
            if self._console.is_terminal:
                with Live(console=self._console, auto_refresh=False) as live:
                    while True:
                        live.update(self._drawn(stack), refresh=True)
                        await asyncio.sleep(_DRAW_S)
            while True:
                self._print_changes(stack)
                await asyncio.sleep(_DRAW_S)
        finally:
            measuring.cancel()
            with suppress(asyncio.CancelledError):
                await measuring

    async def _measure(self) -> None:
        await self._opened.wait()
        while self._installation is not None:
            try:
                async with open_stores(self._installation.settings) as stores:
                    await self._measure_again(lag.LagMeter(stores))
            except MillraceError as error:
                self._lag = f"unknown: {error}"
                await asyncio.sleep(_DRAW_S)

    async def _measure_again(self, meter: lag.LagMeter) -> None:
        try:
            while True:
                self._lag = await meter.measure()
                await asyncio.sleep(_DRAW_S)
        finally:
            await meter.close()

    def _print_changes(self, stack: LocalStack) -> None:
        for name, child in stack.status().children.items():
            if self._printed.get(name) != child.state:
                self._printed[name] = child.state
                pid = child.process.pid if child.process else "-"
                line = f"{name:<10} {child.state:<12} pid {pid}"
                self._console.print(line, markup=False, highlight=False)

    def _drawn(self, stack: LocalStack) -> RenderableType:
        """Low enough for 24 lines: what does not fit would be cut off."""
        return Group(self._table(stack), self._lag_line())

    def _table(self, stack: LocalStack) -> Table:
        table = Table(title=f"Millrace in {stack.data_dir}", title_justify="left")
        for column in ("process", "state", "pid", "restarts", "port", "metrics"):
            table.add_column(column, justify="left" if column in ("process", "state") else "right")
        ports = self._ports(stack)
        metrics = self._installation.started.metrics_ports if self._installation else {}
        for name, child in stack.status().children.items():
            table.add_row(*_row(name, child, ports.get(name, ""), str(metrics.get(name, ""))))
        return table

    def _ports(self, stack: LocalStack) -> dict[str, str]:
        at = stack.addresses
        ports = {
            "kafka": str(at.get("kafka_bootstrap", "")).rpartition(":")[2],
            "cassandra": str(at.get("cassandra_port", "")),
            "postgres": str(at.get("postgres_dsn", "")).rpartition(":")[2].partition("/")[0],
            "memcached": str(at.get("memcached_addresses", "")).rpartition(":")[2],
        }
        if self._installation is not None:
            shared = self._installation.grpc_address.rpartition(":")[2]
            health = self._installation.started.health_ports
            own = {
                name: f"{shared}, {p}" if "grpc" in name else str(p) for name, p in health.items()
            }
            ports |= own
        return ports

    def _lag_line(self) -> Text:
        if isinstance(self._lag, str):
            return Text(f"lag {self._lag}", style="dim")
        views = "  ".join(f"{name} {behind}" for name, behind in self._lag.views.items())
        rest = f"planning {self._lag.planning}  delivery {self._lag.delivery}"
        return Text(
            f"lag (records)  {views}  {rest}", style="yellow" if self._lag.total else "green"
        )


def _row(name: str, child: ChildStatus, port: str, metrics: str) -> tuple[RenderableType, ...]:
    state = Text(child.state, style=_STYLES.get(child.state, ""))
    pid = str(child.process.pid) if child.process else "-"
    return name, state, pid, str(child.restarts or ""), port, metrics


def how_to_call(address: str) -> str:
    """Lines to paste."""
    return (
        "# grpcurl is a program of its own: docs/calling.md says how to get it\n"
        f"grpcurl -plaintext {address} list\n"
        "grpcurl -plaintext -d '"
        '{"request_id": "00000000-0000-4000-8000-000000000001", "handle": "ana",'
        ' "password": "correct horse"}'
        f"' {address} social.v1.UsersService/Register\n"
        f'{shlex.quote(sys.executable)} -c "\n'
        "import asyncio\n"
        "from millrace.client import Client\n"
        "async def main():\n"
        f"    client = Client('{address}')\n"
        "    print(await client.register('ben', 'correct horse'))\n"
        "    await client.close()\n"
        'asyncio.run(main())"'
    )
