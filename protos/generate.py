"""Generates the Python code of the protos, and the image that `buf breaking` compares with.

    python protos/generate.py            writes protos/gen
    python protos/generate.py --check    writes nothing; exit 1 and a list when protos/gen differs
    python protos/generate.py --image    writes protos/image.binpb: after a release, not to silence
                                         `buf breaking`

The same protos and versions of the tools (requirements.lock) give the same bytes. Generated code
imports by its path from the proto root (`from social.v1 import users_pb2`), so protos/gen is a root
of imports. Stubs of services are for grpc.aio only.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import sysconfig
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

PROTOS = Path(__file__).resolve().parent
GEN = PROTOS / "gen"
IMAGE = PROTOS / "image.binpb"
# A servicer may leave RPCs of later issues out: the generated base answers UNIMPLEMENTED.
STUBS = "quiet,only_async,generate_concrete_servicer_stubs"


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate code from the protos.")
    job = parser.add_mutually_exclusive_group()
    job.add_argument("--check", action="store_true", help="fail when protos/gen is out of date")
    job.add_argument("--image", action="store_true", help="rewrite protos/image.binpb")
    arguments = parser.parse_args()
    if arguments.image:
        write_image(IMAGE)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        changed = differing(fresh, GEN)
        if not arguments.check:
            replace(GEN, fresh)
            print(f"protos/gen: {len(changed)} files changed")
            return 0
    for path in changed:
        print(f"protos/gen/{path} is not what the protos generate", file=sys.stderr)
    return 1 if changed else 0


def generate(folder: Path) -> None:
    """Writes all generated code into an empty folder."""
    sources = proto_files()
    run_protoc(sources, f"--python_out={folder}", plugin("mypy"), f"--mypy_out=quiet:{folder}")
    run_protoc(
        [path for path in sources if has_service(path)],
        f"--grpc_python_out={folder}",
        plugin("mypy_grpc"),
        f"--mypy_grpc_out={STUBS}:{folder}",
    )
    for package in sorted({parent for path in sources for parent in path.parents} - {Path()}):
        (folder / package / "__init__.py").touch()
    for package in sorted({Path(path.parts[0]) for path in sources}):
        (folder / package / "py.typed").touch()


def write_image(path: Path) -> None:
    """Writes a set of file descriptors, which buf takes for an image of its own."""
    run_protoc(proto_files(), f"--descriptor_set_out={path}", "--include_imports")


def proto_files() -> list[Path]:
    """Every proto of the project, relative to protos/, sorted."""
    found = (path.relative_to(PROTOS) for path in PROTOS.rglob("*.proto"))
    return sorted(path for path in found if path.parts[0] in ("buf", "social"))


def has_service(path: Path) -> bool:
    return any(line.startswith("service ") for line in (PROTOS / path).read_text().splitlines())


def plugin(name: str) -> str:
    """The option that names a plugin of mypy-protobuf in the running interpreter's environment."""
    script = f"protoc-gen-{name}"
    found = shutil.which(script, path=sysconfig.get_path("scripts")) or shutil.which(script)
    if found is None:
        raise SystemExit(f"{script} not found: install the dev dependencies (make setup)")
    return f"--plugin={script}={found}"


def run_protoc(sources: list[Path], *options: str) -> None:
    include = [f"-I{PROTOS}", f"-I{files('grpc_tools') / '_proto'}"]
    if protoc.main(["protoc", *include, *options, *map(str, sources)]) != 0:
        raise SystemExit("protoc failed")


def differing(fresh: Path, kept: Path) -> list[Path]:
    """Files that are in one tree only, or not the same in both; relative, sorted."""
    before, after = contents(kept), contents(fresh)
    return sorted(path for path in before.keys() | after if before.get(path) != after.get(path))


def contents(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def replace(kept: Path, fresh: Path) -> None:
    """Makes one tree equal to another; files that are equal keep their times."""
    wanted = contents(fresh)
    for path in contents(kept).keys() - wanted:
        (kept / path).unlink()
    for path, content in wanted.items():
        target = kept / path
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


if __name__ == "__main__":
    raise SystemExit(main())
