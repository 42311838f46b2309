"""The Python of the documents runs as it stands, against a whole product in this process."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.serving import serving

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:50051"
PICTURE = "tests/data/pictures/coffee.jpg"
SAYS = {
    "README.md": ["ana coffee 1"],
    "docs/calling.md": ["cleo likes", "[('coffee', 1)]", "bytes, as announced"],
}


@pytest.mark.parametrize("document", SAYS)
async def test_the_python_of_a_document_runs(document: str, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.M | re.S)
    assert ADDRESS in block
    assert PICTURE in block
    async with serving() as world:
        code = block.replace(ADDRESS, world.address).replace(PICTURE, str(ROOT / PICTURE))
        ran = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos' / 'gen'}"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, complaint = await ran.communicate()
    assert ran.returncode == 0, complaint.decode()
    said = printed.decode()
    assert [line for line in SAYS[document] if line not in said] == []
