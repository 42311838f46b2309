"""aiokafka: with idempotence a send is tried again for ever, whatever `request_timeout_ms` says.

Takes a Kafka of its own, a quarter of a minute.
"""

import asyncio
import tempfile
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local.stack import LocalStack, StackSettings
from tests.upstream.servers import ended

REQUEST_TIMEOUT_MS = 500
WAIT_S = 6


async def outlives_its_time(bootstrap: str, stack: LocalStack, *, idempotent: bool) -> bool:
    """Whether a send to a broker that is gone is still under way after all that time."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=idempotent,
        acks="all",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    await producer.start()
    await producer.send_and_wait("upstream", b"first")
    await stack.stop_child("kafka")
    sent = await producer.send("upstream", b"second")
    await asyncio.wait({sent}, timeout=WAIT_S)
    # `stop` would wait for the batch: it goes with the process.
    producer._closed = True
    producer._sender.sender_task.cancel()
    await producer.client.close()
    return not sent.done()


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="millrace-upstream-") as folder:
        settings = StackSettings(Path(folder) / "data", servers=("kafka",), usual_ports=False)
        async with LocalStack(settings, report=lambda _: None) as stack:
            await stack.wait_ready("kafka")
            bootstrap = str(stack.addresses["kafka_bootstrap"])
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await admin.start()
            await admin.create_topics([NewTopic("upstream", 1, 1)])
            await admin.close()
            found = {}
            for idempotent in (False, True):
                found[idempotent] = await outlives_its_time(bootstrap, stack, idempotent=idempotent)
                await stack.start_child("kafka")
                await stack.wait_ready("kafka")
    print(
        f"{WAIT_S} s after the broker has gone, request_timeout_ms being {REQUEST_TIMEOUT_MS}: "
        f"still sending without idempotence {found[False]}, with it {found[True]}"
    )
    ended(found[True] and not found[False], "no delivery time-out with idempotence")


asyncio.run(main())
