"""A client that nobody here wrote: node with grpc-js, which learns the schema by reflection."""

import asyncio
import hashlib
import json
import secrets
from pathlib import Path

import pytest

from deploy.local.install.venv import VENV
from tests.running import RunningMillrace, running_millrace

__all__ = ["running_millrace"]

CLIENT = Path(__file__).parent / "grpcjs" / "client.js"
PICTURE = Path(__file__).parents[1] / "data" / "pictures" / "coffee.jpg"
SERVICES = ("Activity", "Comments", "Feed", "Follows", "Likes", "Media", "Saves", "Users")
_CLIENT_S = 90


@pytest.mark.timeout(300)
async def test_node_lists_registers_uploads_follows_likes_and_reads(
    running_millrace: RunningMillrace,
) -> None:
    address = running_millrace.installation.grpc_address
    suffix = secrets.token_hex(3)
    node = await asyncio.create_subprocess_exec(
        *(VENV / "bin" / "node", CLIENT, address, PICTURE, suffix),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_CLIENT_S):
            printed, complaint = await node.communicate()
    finally:
        if node.returncode is None:
            node.kill()
    assert node.returncode == 0, complaint.decode()
    said = json.loads(printed)

    expected = {f"social.v1.{name}Service" for name in SERVICES}
    assert expected | {"grpc.health.v1.Health"} <= set(said["services"])
    uploaded, downloaded = said["uploaded"], said["downloaded"]
    assert (uploaded["caption"], uploaded["kind"]) == ("from node", "MEDIA_KIND_JPEG")
    assert said["feed"] == [
        {
            "id": uploaded["id"],
            "handle": f"ana.{suffix}",
            "caption": "from node",
            "likes_count": "1",
            "viewer_likes": True,
        }
    ]
    assert said["complete"]
    assert downloaded["sha256"] == downloaded["announced"] == uploaded["sha256"]
    assert said["refused"] == "INVALID_ARGUMENT"

    # The same bytes by our own client, for another person.
    me = await running_millrace.client.register(f"me.{suffix}", "another password")
    header, data = await running_millrace.client.download(me, int(uploaded["id"]))
    assert hashlib.sha256(data).hexdigest() == downloaded["sha256"]
    assert (header.size_bytes, len(data)) == (downloaded["size_bytes"],) * 2
