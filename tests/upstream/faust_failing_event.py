"""Faust: an agent that takes batches and raises has its whole batch committed, and loses it."""

import asyncio
import logging
from typing import Any

import faust
from aiokafka import AIOKafkaProducer

from tests.upstream.servers import address, ended, topic

EVENTS, BATCH = 20, 10
WAIT_S = 40


async def main() -> None:
    logging.disable(logging.CRITICAL)
    bootstrap = address("kafka_bootstrap")
    async with topic() as (name, admin):
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            for number in range(EVENTS):
                await producer.send_and_wait(name, str(number).encode())
        app = faust.App(
            f"{name}-app", broker=f"kafka://{bootstrap}", store="memory://", web_enabled=False,
            topic_disable_leader=True, topic_allow_declare=False, broker_commit_interval=0.2,
            consumer_auto_offset_reset="earliest", value_serializer="raw",
        )  # fmt: skip
        taken: list[bytes] = []
        failed: list[bytes] = []

        @app.agent(app.topic(name, value_serializer="raw"))
        async def work(stream: Any) -> None:
            async for events in stream.take_events(BATCH, within=1.0):
                values = [event.value for event in events]
                if not failed:
                    failed.extend(values)
                    raise ValueError("a body that fails")
                taken.extend(values)

        running = asyncio.create_task(app.start())
        committed = 0
        for _ in range(WAIT_S * 10):
            offsets = await admin.list_consumer_group_offsets(app.conf.id)
            committed = max([place.offset for place in offsets.values()], default=0)
            if committed >= BATCH and failed and len(taken) >= EVENTS - len(failed) - 1:
                break
            await asyncio.sleep(0.1)
        lost = sorted(set(map(int, failed)) - set(map(int, taken)))
        print(f"failed once: {len(failed)}, committed: {committed}, never done: {lost}")
        await app.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    ended(bool(lost) and committed > max(lost), "take_events acknowledges what failed")


asyncio.run(main())
