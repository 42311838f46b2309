"""`millrace`: everything an operator types.

Exit codes: 0 done; 1 it failed; 2 wrong usage, or the state of things forbids it; 3 a stack is
running already, or none is. Errors are one line on stderr; those of a process come with its last
lines. Secrets are never arguments: they are in files (`keys_dir`) or the environment.
"""

import logging
import sys
from collections.abc import Callable

import typer

from cli import (
    audit,
    bench,
    dead,
    demo,
    keys,
    load_graph,
    migrate,
    owed,
    replay,
    soak,
    status,
    topics,
    trace,
    traffic,
    up,
    version,
)
from deploy.local.child import CommandFailed
from deploy.local.ports import NoFreePort
from deploy.local.stack import AlreadyRunning
from deploy.local.status import NotRunning
from deploy.local.watch import ChildFailed
from millrace.errors import FailedPrecondition, InvalidRequest, MillraceError, Unimplemented

COMMANDS: tuple[Callable[..., None], ...] = (
    up.up,
    demo.demo,
    status.status,
    migrate.migrate,
    topics.topics,
    keys.keys,
    load_graph.load_graph,
    traffic.traffic,
    soak.soak,
    bench.bench,
    owed.owed,
    audit.audit,
    replay.replay,
    trace.trace,
    version.version,
)
# They print by themselves what they then raise, some with a traceback.
_LIBRARIES = ("aiokafka", "asyncpg", "cassandra")
_STACK = (AlreadyRunning, NotRunning)
_REFUSED = (FailedPrecondition, InvalidRequest, Unimplemented)
# OSError: a file or folder that is not there, full, or not ours.
_FAILED = (MillraceError, ChildFailed, CommandFailed, NoFreePort, OSError)

commands = typer.Typer(
    help="An event-sourced social backend: gRPC to Kafka to PostgreSQL, Cassandra and memcached.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    commands.command()(command)
commands.add_typer(dead.commands, name="dead")


def app() -> None:
    """The console script."""
    for library in _LIBRARIES:
        logging.getLogger(library).addHandler(logging.NullHandler())
    try:
        commands()
    except _STACK as problem:
        sys.exit(_told(problem, 3))
    except _REFUSED as problem:
        sys.exit(_told(problem, 2))
    except _FAILED as problem:
        sys.exit(_told(problem, 1))
    except KeyboardInterrupt:
        sys.exit(130)


def _told(problem: Exception, code: int) -> int:
    print(f"millrace: {problem}", file=sys.stderr)
    return code


if __name__ == "__main__":
    app()
