"""Who the synthetic people are: by index, always the same, all with one password."""

import string

PASSWORD = "a password for synthetic people"  # noqa: S105  guards nothing: they are made up

_FIRST = (
    "ana", "bento", "clara", "davi", "elisa", "felipe", "gabriela", "heitor", "ines", "joao",
    "lara", "miguel", "nina", "otavio", "paula", "rafael", "sofia", "tomas", "vitoria", "yara",
)  # fmt: skip
_LAST = (
    "almeida", "barbosa", "cardoso", "duarte", "esteves", "ferreira", "gomes", "lopes",
    "moreira", "nunes", "oliveira", "pereira", "ribeiro", "santos", "teixeira", "vieira", "xavier",
)  # fmt: skip


def display_name(person: int) -> str:
    return f"{_FIRST[person % len(_FIRST)].title()} {_LAST[_last(person)].title()}"


def display_name_by(handle: str) -> str:
    """Of whoever has this handle."""
    first, last, *_ = handle.split(".")
    return f"{first.title()} {last.rstrip(string.digits).title()}"


def handle(person: int, run: str = "") -> str:
    """Unique by person within a run; `run` (at most 8 characters) sets newcomers of runs apart."""
    first, last = _FIRST[person % len(_FIRST)], _LAST[_last(person)]
    return f"{first}.{last}{person}{run}"


def _last(person: int) -> int:
    return (person // len(_FIRST) + person * 7) % len(_LAST)
