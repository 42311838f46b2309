"""Logs carry the trace and no secrets; every metric has the house's prefix."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from millrace.observe import logs, metrics, repeats, trace
from social.v1.users_pb2 import RegisterRequest

SECRETS = ("correct horse", "eyJhbGciOiJFZERTQSJ9", "my bio")


def test_a_line_carries_trace_and_process_and_no_secret(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("test", "info")
    trace_id = trace.begin()
    request = RegisterRequest(handle="ana", password=SECRETS[0])
    logs.logger("somewhere").info(
        "happened", user_id=7, password=SECRETS[0], token=SECRETS[1], bio=SECRETS[2], sent=request
    )
    line = capsys.readouterr().err
    found = json.loads(line)
    assert found["trace"] == trace_id
    assert (found["process"], found["source"], found["user_id"]) == ("test", "somewhere", 7)
    assert found["sent"] == "(social.v1.RegisterRequest)"
    assert not any(secret in line for secret in SECRETS)


def test_a_traceback_shows_no_variables(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("test", "info")

    def fail(token: str) -> None:
        raise KeyError(len(token))

    try:
        fail(SECRETS[1])
    except KeyError:
        logs.logger("somewhere").exception("failed")
    line = capsys.readouterr().err
    assert "KeyError" in json.loads(line)["exception"]
    assert SECRETS[1] not in line


def test_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("test", "info")
    logging.getLogger("aiokafka").info("not shown")
    logging.getLogger("aiokafka").warning("broker %s is away", 1)
    logging.getLogger("streams.projection").info("applied", extra={"trace": "a" * 32})
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["source"]) == ("broker 1 is away", "aiokafka")
    assert second["trace"] == "a" * 32


def test_warnings_that_repeat_are_left_out_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now_s = 7.0
    logs.configure("test", "info", lambda: now_s)
    ours, library = logs.logger("somewhere"), logging.getLogger("aiokafka")

    def say() -> list[tuple[str, int | None]]:
        for node in range(3 * repeats.LINES_MAX):
            library.error("no connection to %s", node)
            ours.warning("waiting", view="likes", why=f"reason {node}")
        found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        return [(line["source"], line.get("left_out")) for line in found]

    once = [("aiokafka", None), ("somewhere", None)]
    assert say() == once * repeats.LINES_MAX
    ours.warning("waiting", view="follows")
    for _ in range(3 * repeats.LINES_MAX):
        ours.error("waiting", view="likes")
    assert len(capsys.readouterr().err.splitlines()) == 1 + 3 * repeats.LINES_MAX
    now_s += repeats.WINDOW_S
    left_out = 2 * repeats.LINES_MAX
    assert say()[:3] == [("aiokafka", left_out), ("somewhere", left_out), ("aiokafka", None)]


def test_a_trace_is_taken_from_the_caller() -> None:
    sent = "0af7651916cd43dd8448eb211c80319c"
    assert trace.begin(f"00-{sent}-b7ad6b7169203331-01") == sent == trace.current()
    assert trace.begin(trace.traceparent_of(sent)) == sent


def test_sampled_traces_are_told_and_no_more_than_allowed() -> None:
    now_s = 7.0
    telling = trace.Telling(2, lambda: now_s)
    sent = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
    assert not any(map(telling.admits, ("", "nonsense", f"00-{sent}-00", f"00-{sent}-02")))
    assert [telling.admits(f"00-{sent}-{flags}") for flags in ("01", "03", "01")] == [1, 1, 0]
    now_s = 8.0
    assert telling.admits(f"00-{sent}-01")


@given(st.text(max_size=60))
def test_nonsense_begins_a_new_trace(traceparent: str) -> None:
    found = trace.begin(traceparent)
    assert len(found) == 32
    assert set(found) <= set("0123456789abcdef")
    assert trace.begin(f"00-{'0' * 32}-b7ad6b7169203331-01") != "0" * 32


def test_every_metric_is_named_once_with_meaning() -> None:
    ours = [value for name, value in vars(metrics).items() if name.isupper() and name[0] != "_"]
    described = [next(iter(metric.describe())) for metric in ours]
    assert all(one.name.startswith("millrace_") and one.documentation for one in described)
    assert len({one.name for one in described}) == len(described)
    assert all(REGISTRY._names_to_collectors.get(one.name) for one in described)
