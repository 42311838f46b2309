"""The model's answers where the contract leaves the server a choice."""

from collections.abc import Sequence

import pytest

from millrace.oracle import Answers, Impossible, Refused
from millrace.oracle.pages import ENDLESS, Listed, Pages
from social.v1 import follows_pb2, users_pb2

Request = follows_pb2.ListFollowersRequest


def listed(rows: Sequence[int], hidden: Sequence[int] = (), owner: int = 1) -> Listed:
    return Listed("followers", owner, set(rows), lambda one: one not in hidden)


def test_a_page_may_be_short_but_leaves_nothing_out() -> None:
    pages, three = Pages(), Request(page_size=3)
    rows = listed(range(1, 7))
    assert pages.page(rows, three, [1, 2], "t") == ([1, 2], "t")
    assert pages.page(rows, three, [1, 2, 3, 4], "u") == ([1, 2, 3], "u")
    assert pages.page(rows, three, [1, 3], "v") == ([1, 2], "v")
    # Without a token it was the end, so all must be there.
    assert pages.page(rows, three, [1, 2], "") == ([1, 2, 3], ENDLESS)
    assert pages.page(rows, Request(page_token="t"), [3, 4, 5, 6], "") == ([3, 4, 5, 6], "")


def test_rows_that_were_hidden_where_a_token_stands_may_come_or_not() -> None:
    for seen in ([3, 4, 5], [5], [4, 5]):
        pages = Pages()
        pages.page(listed(range(1, 6), hidden=(3, 4)), Request(), [1, 2], "t")
        after = Request(page_token="t")
        assert pages.page(listed(range(1, 6)), after, seen, "") == (seen, "")
        assert pages.page(listed(range(1, 7)), after, [5], "") == ([5, 6], "")


def test_a_page_without_rows_goes_on_from_wherever_its_token_stands() -> None:
    pages = Pages()
    pages.page(listed([1, 12, 14, 24], hidden=(12, 14)), Request(page_size=2), [1], "t")
    # 12 is back, but the token may stand after it; then only 14, hidden, was on the page.
    pages.page(listed([1, 12, 14, 24], hidden=(14,)), Request(page_token="t"), [], "u")
    after = Request(page_token="u")
    for seen in ([24], [14, 24], [12, 14, 24]):
        assert pages.page(listed([1, 12, 14, 24]), after, seen, "") == (seen, "")


def test_a_token_belongs_to_one_list_of_one_owner() -> None:
    pages = Pages()
    pages.page(listed([1, 2]), Request(page_size=1), [1], "t")
    for token, rows, reason in (
        ("u", listed([1, 2]), "PAGE_TOKEN_INVALID"),
        ("t", listed([1, 2], owner=2), "PAGE_TOKEN_OF_ANOTHER_LIST"),
    ):
        with pytest.raises(Refused, match=reason):
            pages.page(rows, Request(page_token=token), [], "")


def registered(answers: Answers, handle: str, user_id: int) -> str:
    """An access token."""
    request = users_pb2.RegisterRequest(request_id=handle, handle=handle, password="x")
    seen = users_pb2.RegisterResponse(
        user_id=user_id, access_token=f"a {handle}", refresh_token=f"r {handle}", expires_in_s=9
    )
    answers.answer("Register", "", [request], seen)
    return seen.access_token


def test_an_id_is_given_out_once() -> None:
    answers = Answers(5, {})
    registered(answers, "ana", 1)
    with pytest.raises(Impossible, match="user id 1"):
        registered(answers, "ben", 1)


def test_where_a_call_breaks_several_rules_any_of_them_may_be_told() -> None:
    answers = Answers(5, {})
    ana = registered(answers, "ana", 1)
    request = Request(user_id=9, page_token="nobody's")
    with pytest.raises(Refused) as refused:
        answers.answer("ListFollowers", ana, [request], follows_pb2.ListFollowersResponse())
    assert refused.value.allowed == {
        "NOT_FOUND USER_NOT_FOUND",
        "INVALID_ARGUMENT PAGE_TOKEN_INVALID",
    }
