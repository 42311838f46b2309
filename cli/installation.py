"""A Millrace that runs: its processes as children of a LocalStack, prepared and ready.

async with LocalStack(StackSettings(data_dir)) as stack:
    running = await start_own(stack, told=print)
    … Client(running.grpc_address) …
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cli.prepare import prepare
from cli.processes import Started, own_children
from deploy.local.stack import LocalStack
from millrace.settings import Settings, settings_with

Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Installation:
    """`settings` are those of every process but for its own ports."""

    settings: Settings
    started: Started

    @property
    def grpc_address(self) -> str:
        return self.started.grpc_address

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(child.name for child in self.started.children)


async def start_own(
    stack: LocalStack,
    environment: Environment | None = None,
    *,
    told: Callable[[str], None],
) -> Installation:
    """Prepare and start Millrace's own processes; returns when all are ready.

    Without `environment` they use the servers of this very stack; else what it says (names of
    settings in the form of environment variables). Raises ChildFailed with the last lines of the
    process that did not come up.
    """
    environment = environment or environment_of(stack)
    settings = await prepare_own(environment, told=told)
    told("processes")
    return await start_processes(stack, environment, settings)


async def prepare_own(environment: Environment, *, told: Callable[[str], None]) -> Settings:
    """What must be there before the processes. Returns the settings that they will have."""
    settings = _settings(environment)
    async for step in prepare(settings):
        told(step)
    return settings


async def start_processes(
    stack: LocalStack, environment: Environment, settings: Settings
) -> Installation:
    started = own_children(stack.ports, environment, depends_on=tuple(stack.settings.servers))
    stack.addresses["grpc_address"] = started.grpc_address
    for child in started.children:
        stack.add(child)
    await stack.wait_ready(*(child.name for child in started.children))
    address = {"grpc_address": started.grpc_address}
    return Installation(settings.model_copy(update=address), started)


def environment_of(stack: LocalStack) -> Environment:
    """For processes that use the servers of this stack."""
    return {"MILLRACE_STACK_FILE": str(stack.status_file)}


def _settings(environment: Environment) -> Settings:
    """As a process with this environment would read them."""
    prefix = str(Settings.model_config["env_prefix"])
    given = {name.removeprefix(prefix).lower(): value for name, value in environment.items()}
    return settings_with(**given)
