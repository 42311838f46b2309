"""One Kafka node, broker and controller in one, on loopback."""

from __future__ import annotations

from pathlib import Path

from aiokafka.client import AIOKafkaClient

from deploy.local import jvm
from deploy.local.child import Child, run
from deploy.local.files import write_atomically
from deploy.local.ports import LOOPBACK, Ports, connect

NAME = "kafka"
_USUAL_PORT = 9092
_USUAL_CONTROLLER_PORT = 9093
# Fixed, because a cluster id only has to differ where clusters could meet.
_CLUSTER_ID = "bWlsbHJhY2UtbG9jYWwtMQ"
# As the gRPC processes have (MILLRACE_GRPC_NICE): each write waits for both, and a broker that they
# starve made answers take more than twice as long (docs/overload.md).
_NICE = -15
_HERE = Path(__file__).parent


def child(
    folder: Path, ports: Ports, *, heap_mb: int, log: Path
) -> tuple[Child, dict[str, object]]:
    """The child, and its keys in stack.json."""
    port = ports.take(NAME, _USUAL_PORT)
    controller_port = ports.take(f"{NAME}-controller", _USUAL_CONTROLLER_PORT)
    node = folder / "node.properties"
    java = (
        jvm.java(),
        *jvm.options(folder, heap_first_mb=128, heap_max_mb=heap_mb),
        "-XX:TieredStopAtLevel=1",
        f"-Dlog4j2.configurationFile={_HERE / 'log4j2.properties'}",
        *("-cp", jvm.class_path(NAME)),
    )

    async def prepare() -> None:
        jvm.make_folders(folder, "log")
        write_atomically(node, _node_properties(folder / "log", port, controller_port))
        if not (folder / "log" / "meta.properties").exists():
            tool = ("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(node))
            await run((*java, *tool, "--standalone", "--ignore-formatted"), log)

    server = Child(
        name=NAME,
        argv=(*java, "kafka.Kafka", str(node)),
        prepare=prepare,
        ready=lambda: _answer(port),
        cwd=folder,
        nice=_NICE,
    )
    return server, {"kafka_bootstrap": f"{LOOPBACK}:{port}"}


def _node_properties(log_dir: Path, port: int, controller_port: int) -> str:
    template = (_HERE / "node.properties").read_text()
    values = {"LOG_DIR": log_dir, "PORT": port, "CONTROLLER_PORT": controller_port}
    for name, value in values.items():
        template = template.replace(f"@{name}@", str(value))
    return template


async def _answer(port: int) -> None:
    """Metadata that names a broker: an open port alone does not mean that it serves."""
    await connect(port)
    client = AIOKafkaClient(bootstrap_servers=f"{LOOPBACK}:{port}")
    try:
        await client.bootstrap()
        if not client.cluster.brokers():
            raise ConnectionError("no broker in the metadata yet")
    finally:
        await client.close()
