"""One claim about what a run has left, and what of it was found to be wrong."""

from dataclasses import dataclass, field

SHOWN_MAX = 5


@dataclass(slots=True)
class Check:
    """`claim` holds for all of `examined`, but for those in `wrong` (the first few in words)."""

    claim: str
    examined: int = 0
    wrong_count: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.wrong_count == 0

    def expect(self, what: str, expected: object, found: object) -> None:
        self.examined += 1
        if expected != found:
            self.fail(f"{what}: expected {short(expected)}, found {short(found)}")

    def fail(self, text: str) -> None:
        self.wrong_count += 1
        if len(self.wrong) < SHOWN_MAX:
            self.wrong.append(text)


def short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:157] + "…"
