"""aiomcache: a call that is cancelled hands its reply to the next caller."""

import asyncio

import aiomcache

from tests.upstream.servers import address, ended


async def main() -> None:
    host, _, port = address("memcached_addresses").rpartition(":")
    client = aiomcache.Client(host, int(port), pool_size=1)
    await client.set(b"upstream-ana", b"ana's", exptime=60)
    await client.set(b"upstream-ben", b"ben's", exptime=60)
    asked = asyncio.ensure_future(client.get(b"upstream-ana"))
    while not client._pool._in_use:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    found = await client.get(b"upstream-ben")
    print(f"asked for ben's, got {found!r}")
    await client.close()
    ended(found != b"ben's", "a cancelled call's reply goes to the next caller")


asyncio.run(main())
