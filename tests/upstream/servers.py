"""What the reproducers share: where the servers are, and how a reproducer ends.

A reproducer exits with 0 while the bug is there, with 1 when it is gone:

    python -m tests.upstream.aiomcache_cancelled         # the servers of `make up`, or those of
                                                         # MILLRACE_TEST_STACK (a stack.json)
"""

import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

GONE = 1


def address(name: str) -> str:
    """Such as `kafka_bootstrap`: a key of stack.json."""
    file = Path(os.environ.get("MILLRACE_TEST_STACK", ".millrace/stack.json"))
    return str(json.loads(file.read_text())[name])


def ended(is_there: bool, bug: str) -> NoReturn:
    print(f"still there: {bug}" if is_there else f"gone: {bug}")
    sys.exit(0 if is_there else GONE)


@asynccontextmanager
async def topic(**config: str) -> AsyncIterator[tuple[str, AIOKafkaAdminClient]]:
    """A new topic of one partition, deleted afterwards."""
    name = f"upstream-{secrets.token_hex(5)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=address("kafka_bootstrap"))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs=config)])
        yield name, admin
        await admin.delete_topics([name])
    finally:
        await admin.close()
