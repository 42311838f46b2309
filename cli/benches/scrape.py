"""One counter of a running process, from its metrics."""

import asyncio

from deploy.local.ports import LOOPBACK
from millrace.errors import StoreUnavailable

_TIMEOUT_S = 10.0


async def counted(port: int, name: str) -> float:
    """The sum over all labels of a counter of `millrace/observe/metrics.py`."""
    request = f"GET /metrics?name[]={name} HTTP/1.0\r\nAccept: text/plain\r\n\r\n"
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(request.encode())
            answer = (await reader.read()).decode()
            writer.close()
    except (OSError, TimeoutError) as error:
        raise StoreUnavailable(f"no metrics on port {port}") from error
    lines = (line.rsplit(" ", 1) for line in answer.splitlines() if line.startswith(name))
    return sum(float(value) for _, value in lines)
