"""What the contract refuses."""


class Refused(Exception):
    """`allowed`: "CODE REASON" of each rule that the call breaks. Which one is told where it
    breaks several, the contract leaves open.
    """

    def __init__(self, *allowed: str) -> None:
        super().__init__(*allowed)
        self.allowed = frozenset(allowed)


def refuse_if(broken: dict[str, bool]) -> None:
    """By "CODE REASON" whether the rule is broken. Raises Refused with all that are."""
    allowed = [refusal for refusal, holds in broken.items() if holds]
    if allowed:
        raise Refused(*allowed)


class Impossible(AssertionError):
    """The server chose what it may not choose, such as an id that was given out before."""


def require(holds: bool, what: str) -> None:
    """Raises Impossible."""
    if not holds:
        raise Impossible(what)
