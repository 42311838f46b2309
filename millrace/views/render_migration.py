"""Writes the next migration from the declarations: `python -m millrace.views.render_migration
NAME`.

New tables and new columns are rendered. What cannot be rendered (a column that changed its type
or went away, a table whose key changed) is refused: such a step is written by hand, into the
same folder. Either way a test compares a database that the migrations built with one that was
built straight from the declarations.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from millrace.errors import InvalidRequest
from millrace.stores import ddl, migrate
from millrace.views import VIEWS

FOLDER = Path(migrate.__file__).parent / "migrations"

_CREATE = re.compile(r'^CREATE TABLE "?(\w+)"? \(\n(.*?)\n\)', re.MULTILINE | re.DOTALL)
_ADD = re.compile(r'^ALTER TABLE "(\w+)" ADD COLUMN (.*?);$', re.MULTILINE)
_HEAD = "-- Rendered from the declarations in millrace/views. Never change an applied migration.\n"


def render(wanted: Mapping[str, str], applied: Sequence[str]) -> str:
    """SQL that leads from what the `applied` files made to the `wanted` tables; "" for nothing.

    `wanted`: CREATE TABLE by name. Raises InvalidRequest for what only a person can write.
    """
    standing = _lines(applied)
    steps = []
    for name, create in wanted.items():
        if name not in standing:
            steps.append(f"{create};\n")
            continue
        lines = _lines([create])[name]
        if gone := [line for line in standing[name] if line not in lines]:
            raise InvalidRequest(f"{name}: write by hand what becomes of {'; '.join(gone)}")
        added = [line for line in lines if line not in standing[name]]
        steps += [f"ALTER TABLE {ddl.quoted(name)} ADD COLUMN {line};\n" for line in added]
    if gone_tables := sorted(set(standing) - set(wanted)):
        raise InvalidRequest(f"write by hand what becomes of {', '.join(gone_tables)}")
    return "\n".join([_HEAD, *steps]) if steps else ""


def _lines(files: Sequence[str]) -> dict[str, list[str]]:
    """Columns and keys by table, as the files leave them."""
    tables: dict[str, list[str]] = {}
    for sql in files:
        for name, body in _CREATE.findall(sql):
            tables[name] = [line.strip() for line in body.split(",\n")]
        for name, column in _ADD.findall(sql):
            tables[name].append(column)
    return tables


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or not re.fullmatch(r"[a-z][a-z0-9_]*", arguments[0]):
        sys.stderr.write("usage: python -m millrace.views.render_migration lower_case_name\n")
        return 2
    files = migrate.migrations()
    try:
        sql = render(
            ddl.statements(view.schema for view in VIEWS), [migration.sql for migration in files]
        )
    except InvalidRequest as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if not sql:
        sys.stdout.write("the migrations are up to date\n")
        return 0
    file = FOLDER / f"{len(files) + 1:04}_{arguments[0]}.sql"
    file.write_text(sql, encoding="utf-8")
    sys.stdout.write(f"{file.relative_to(FOLDER.parent.parent.parent)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
