"""What an operator sees in `millrace up`, on a small terminal too."""

import io
import sys
from pathlib import Path
from typing import cast

from rich.console import Console

from cli.installation import Installation
from cli.live_view import LiveView, how_to_call
from cli.processes import OWN, own_children
from deploy.local.ports import Ports
from deploy.local.stack import LocalStack, StackSettings
from deploy.local.status import ChildStatus, StackStatus
from millrace.settings import Settings

LINES = 24


class FullStack(LocalStack):
    """As it looks when all runs."""

    def status(self) -> StackStatus:
        names = [*self.settings.servers, *(process.name for process in OWN)]
        children = {name: ChildStatus("ready", 1, f"{name}.log", None) for name in names}
        return StackStatus(str(self.data_dir), True, None, children, {})


def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80, height=LINES)


def printed(shown: Console) -> str:
    return cast(io.StringIO, shown.file).getvalue()


def test_all_that_is_drawn_fits_a_small_terminal(tmp_path: Path) -> None:
    view = LiveView(console())
    ports = Ports(tmp_path / "ports.json", usual=False)
    view.opened(Installation(Settings(), own_children(ports, {})))
    for number in range(50):
        view.tell(f"death {number}")
    drawn = console()
    drawn.print(view._drawn(FullStack(StackSettings(tmp_path))))
    assert all(process.name in printed(drawn) for process in OWN)
    assert len(printed(drawn).splitlines()) < LINES


def test_what_is_told_stays_and_can_be_pasted(tmp_path: Path) -> None:
    shown = console()
    view = LiveView(shown)
    view.tell("sweeper was killed by signal 9; its last lines:\n    " + "long " * 40)
    started = own_children(Ports(tmp_path / "ports.json", usual=False), {})
    address = {"grpc_address": started.grpc_address}
    view.opened(Installation(Settings().model_copy(update=address), started))
    text = printed(shown)
    assert "long " * 40 in text
    assert how_to_call(started.grpc_address) in text
    assert sys.executable in text
