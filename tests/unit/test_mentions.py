"""Which "@handle"s a text mentions: the rule that comments.proto states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.mentions import handles, standing

WRITTEN = [
    ("@ana", ["ana"]),
    ("hello @ana, hello @ben!", ["ana", "ben"]),
    ("(@ana) [@ben] “@cem” -@dora", ["ana", "ben", "cem", "dora"]),
    ("as @ana.b_1 says", ["ana.b_1"]),
    # A dot at the end is the sentence's.
    ("ask @ana.", ["ana"]),
    ("ask @ana... and @ben.", ["ana", "ben"]),
    ("so.@ana", ["ana"]),
    ("@.ana", [".ana"]),
    # Addresses, of people and of pages.
    ("write to a@bob.com", []),
    ("a_b@bob.com, x.@bob", ["bob"]),
    ("@ana@example.org", []),
    ("see site.example/@ana", []),
    ("@@ana", []),
    # Letters of other alphabets are letters.
    ("é@ana", []),
    ("@anaé", []),
    ("@ana’s", ["ana"]),
    # Lengths.
    ("@an @a @", []),
    ("@an. @an..", []),
    ("@" + "a" * 30, ["a" * 30]),
    ("@" + "a" * 31, []),
    ("@" + "a" * 30 + ".", ["a" * 30]),
    # Different handles in the order of their first places.
    ("@Ana @ben @ana @BEN @cem", ["Ana", "ben", "cem"]),
    ("", []),
]


@pytest.mark.parametrize(("text", "found"), WRITTEN)
def test_a_text_mentions(text: str, found: list[str]) -> None:
    assert handles(text) == found


@given(st.text(st.sampled_from("@aB._ é/"), max_size=60))
def test_what_is_found_is_a_handle_of_the_contract_each_once(text: str) -> None:
    found = handles(text)
    assert len({one.lower() for one in found}) == len(found)
    for handle in found:
        assert f"@{handle}" in text
        assert 3 <= len(handle) <= 30
        assert set(handle) <= set("aB._")


def test_only_who_stands_is_mentioned() -> None:
    shown = standing("@ana @Ben @cem @dora", [5, 7, 0], {7})
    assert [(one.handle, one.user_id) for one in shown] == [("Ben", 7)]
    # A text whose key was destroyed is empty, its ids are not.
    assert standing("", [5, 7], {5, 7}) == []
