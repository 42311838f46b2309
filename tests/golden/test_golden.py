"""Bytes that were ever written are read as ever, and written the same again."""

import json
from pathlib import Path

import pytest
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from tests.golden import make


@pytest.mark.parametrize("path", sorted(make.LOG.glob("*.json")), ids=lambda path: path.stem)
def test_golden_bytes(path: Path) -> None:
    golden = json.loads(path.read_text())
    kind = GetMessageClass(Default().FindMessageTypeByName(golden["message"]))
    message = kind.FromString(bytes.fromhex(golden["hex"]))
    assert make.as_json(message) == golden["json"]
    assert message.SerializeToString(deterministic=True).hex() == golden["hex"]


def test_every_kind_of_event_has_its_bytes_of_today() -> None:
    missing = [
        name
        for name, message in make.examples()
        if make.golden(message) not in [json.loads(p.read_text()) for p in make.versions(name)]
    ]
    assert not missing, "run `python tests/golden/make.py` and commit what it adds"


def test_partitions_never_change() -> None:
    assert make.partitions() == json.loads(make.PARTITIONS.read_text())
