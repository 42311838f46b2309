"""aiokafka: after the broker has refused one batch, an idempotent producer is refused for ever."""

import asyncio
import secrets

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.upstream.servers import address, ended, topic

TRIES = 5


async def main() -> None:
    async with topic(**{"max.message.bytes": "1000"}) as (name, _):
        producer = AIOKafkaProducer(
            bootstrap_servers=address("kafka_bootstrap"), enable_idempotence=True
        )
        await producer.start()
        await producer.send_and_wait(name, b"small")
        refusals = []
        for value in (secrets.token_bytes(5_000), *[b"small"] * TRIES):
            try:
                await asyncio.wait_for(producer.send_and_wait(name, value), 10)
            except (KafkaError, TimeoutError) as error:
                refusals.append(type(error).__name__)
        print(f"one batch too large, then {TRIES} small ones: {refusals}")
        await producer.stop()
    ended(len(refusals) == 1 + TRIES, "a refused batch uses up sequence numbers")


asyncio.run(main())
