"""One Cassandra node on loopback: data centre `eu`, rack `r1`."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

from deploy.local import jvm
from deploy.local.child import Child
from deploy.local.files import write_atomically
from deploy.local.install import jars
from deploy.local.ports import LOOPBACK, Ports

NAME = "cassandra"
DATA_CENTRE = "eu"
_USUAL_PORT = 9042
_USUAL_STORAGE_PORT = 7000
_USUAL_JMX_PORT = 7199
_HERE = Path(__file__).parent
_PROPERTIES = {
    "cassandra-foreground": "yes",
    "cassandra.skip_wait_for_gossip_to_settle": "0",
    "cassandra.ring_delay_ms": "1000",
    "cassandra.superuser_setup_delay_ms": "0",
    "cassandra.shutdown_announce_in_ms": "0",
    "com.sun.management.jmxremote.authenticate": "false",
}
# Of the native protocol, version 4.
_VERSION = 4
_STARTUP, _READY, _QUERY, _RESULT = 0x01, 0x02, 0x07, 0x08
_HEADER = struct.Struct(">BBhBi")
_CONSISTENCY_ONE = 1


def child(folder: Path, ports: Ports, *, heap_mb: int) -> tuple[Child, dict[str, object]]:
    """The child, and its keys in stack.json."""
    port = ports.take(NAME, _USUAL_PORT)
    storage_port = ports.take(f"{NAME}-storage", _USUAL_STORAGE_PORT)
    jmx_port = ports.take(f"{NAME}-jmx", _USUAL_JMX_PORT)
    properties = _PROPERTIES | {
        "cassandra.config": (folder / "cassandra.yaml").as_uri(),
        "cassandra-rackdc.properties": (folder / "rackdc.properties").as_uri(),
        "cassandra.storagedir": str(folder),
        "cassandra.logdir": str(folder),
        "cassandra.triggers_dir": str(folder / "triggers"),
        "cassandra.jmx.local.port": str(jmx_port),
        "logback.configurationFile": str(_HERE / "logback.xml"),
    }

    async def prepare() -> None:
        jvm.make_folders(folder, "triggers")
        write_atomically(folder / "cassandra.yaml", _yaml(folder, port, storage_port))
        write_atomically(folder / "rackdc.properties", f"dc={DATA_CENTRE}\nrack=r1\n")

    server = Child(
        name=NAME,
        argv=(
            jvm.java(),
            f"@{_HERE / 'jvm.options'}",
            *jvm.options(folder, heap_first_mb=heap_mb, heap_max_mb=heap_mb),
            f"-javaagent:{next(iter(jars.folder(NAME).glob('jamm-*.jar')), '')}",
            *(f"-D{key}={value}" for key, value in properties.items()),
            *("-cp", jvm.class_path(NAME), "org.apache.cassandra.service.CassandraDaemon"),
        ),
        prepare=prepare,
        ready=lambda: _answer(port),
        cwd=folder,
    )
    return server, {
        "cassandra_hosts": LOOPBACK,
        "cassandra_port": port,
        "cassandra_dc": DATA_CENTRE,
        "cassandra_jmx_port": jmx_port,
    }


def _yaml(folder: Path, port: int, storage_port: int) -> str:
    template = (_HERE / "cassandra.yaml").read_text()
    for name, value in {"FOLDER": folder, "PORT": port, "STORAGE_PORT": storage_port}.items():
        template = template.replace(f"@{name}@", str(value))
    return template


async def _answer(port: int) -> None:
    """`SELECT release_version FROM system.local` in two frames.

    By hand, because a driver's cluster with its threads and control connection costs more than
    the question, and this is asked many times while the node starts.
    """
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        options = struct.pack(">h", 1) + _text(">h", "CQL_VERSION") + _text(">h", "3.0.0")
        await _ask(reader, writer, _STARTUP, options, _READY)
        query = _text(">i", "SELECT release_version FROM system.local")
        body = query + struct.pack(">hB", _CONSISTENCY_ONE, 0)
        await _ask(reader, writer, _QUERY, body, _RESULT)
    finally:
        writer.close()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, code: int, body: bytes, want: int
) -> None:
    writer.write(_HEADER.pack(_VERSION, 0, 0, code, len(body)) + body)
    _, _, _, got, length = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    answer = await reader.readexactly(length)
    if got != want:
        raise ConnectionError(f"Cassandra answered {got:#x}: {answer[:200]!r}")


def _text(length: str, value: str) -> bytes:
    raw = value.encode()
    return struct.pack(length, len(raw)) + raw
