"""Poisonous events on the real log and PostgreSQL: they become letters, the projection gets
better, `millrace dead` tries one again and drops the other, and the view equals its replay.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from cli import dead, main
from millrace.errors import InvalidRequest, MillraceError, NotFound
from millrace.log.create import create_log
from millrace.log.kafka import KafkaLog
from millrace.log.letters import DEAD, Letter, read_letters
from millrace.log.partitioner import key_of
from millrace.settings import Settings
from millrace.stores.postgres import PostgresStore
from tests.histories import History, write
from tests.letters_world import LettersWorld, edges_of
from tests.running import RunningMillrace, running_millrace

__all__ = ["running_millrace"]

ANA, BEN, CEM = 1, 2, 3
PHOTO = 101


@pytest.fixture
async def world(
    postgres_settings: Settings, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LettersWorld]:
    prefix = f"t{secrets.token_hex(5)}."
    own = postgres_settings.model_copy(update={"topic_prefix": prefix, "log_partitions": 2})
    await create_log(own)
    monkeypatch.setattr(dead, "settings_of_running", lambda data: own)
    log = KafkaLog(own)
    made = LettersWorld(log, postgres_store, with_other=False)
    await made.open()
    yield made
    await log.close()


async def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `millrace dead …` prints; it has an event loop of its own."""

    def run() -> None:
        main.commands(["dead", *arguments], standalone_mode=False)

    capsys.readouterr()
    await asyncio.to_thread(run)
    return capsys.readouterr().out


async def test_poison_to_letter_to_retry_and_the_view_equals_its_replay(
    world: LettersWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    world.refused = {ANA, BEN}
    for user in (ANA, BEN, CEM):
        await world.write("like", user, PHOTO)
    await world.log.append("likes", b"nobody's", b"\xff\xff")
    await world.catch_up()
    world.refused = set()
    assert [edge.target for edge in await world.edges()] == [CEM]
    letters = {letter.event: str(letter.id) for letter in await world.dead()}
    said = await command(capsys, "list", "--view", "likes")
    assert all(letter in said for letter in letters.values())
    assert "3 dead (likes 3), 0 decided" in said
    assert "3 dead" in await command(capsys, "list", "--topic", "likes", "--limit", "1")
    assert "0 dead, 0 decided" in await command(capsys, "list", "--topic", "media")

    garbage = next(str(one.id) for one in await world.dead() if "refused" not in one.reason)
    assert "cannot be read: not a LikesEvent" in await command(capsys, "show", garbage)
    assert f"{garbage} is dropped" in await command(capsys, "drop", garbage)
    shown = await command(capsys, "show", str((await world.dead())[0].id))
    assert "because: refused by the test" in shown
    assert f"media_id: {PHOTO}" in shown

    # What happens meanwhile is newer than the letters.
    await world.write("unlike", BEN, PHOTO)
    said = await command(capsys, "retry", "--all", "--view", "likes")
    assert "2 letters were tried again" in said
    await world.catch_up()
    edges = await world.edges()
    assert [edge.target for edge in edges] == [ANA, CEM]
    assert await edges_of(await world.replayed()) == edges
    said = await command(capsys, "list", "--all")
    assert "0 dead, 3 decided" in said
    assert said.count("retried as") == 2
    with pytest.raises(MillraceError, match="1 of 1 letters"):
        await command(capsys, "retry", garbage)
    with pytest.raises(MillraceError, match="1 of 1 letters"):
        await command(capsys, "drop", garbage, garbage)


async def test_what_cannot_be_is_an_error_of_ours(
    world: LettersWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong: list[tuple[str, type[MillraceError]]] = [
        ("show likes.dead/0/99", NotFound),
        ("show likes/0/1", InvalidRequest),
        ("drop nothing/0/1", InvalidRequest),
        ("retry", InvalidRequest),
        ("retry --all", InvalidRequest),
        ("retry likes.dead/0/1 --view likes", InvalidRequest),
        ("list --topic nothing", InvalidRequest),
        ("list --view nothing", InvalidRequest),
        ("retry --all --view nothing", InvalidRequest),
        ("list --after likes.dead/0/1", InvalidRequest),
    ]
    for arguments, error in wrong:
        with pytest.raises(error):
            await command(capsys, *arguments.split())


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_letters_are_dealt_with_while_traffic_goes_on(
    running_millrace: RunningMillrace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dead, "settings_of_running", lambda data: running_millrace.settings)
    log, views = running_millrace.stores.log, running_millrace.stores.views
    going, liked = True, 0

    async def traffic() -> None:
        nonlocal liked
        while going:
            liked += 1
            record = write(History(), ("like", 10 + liked % 50, 1_000 + liked))
            await log.append("likes", record.key, record.value)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(traffic())
        try:
            # A like in another user's partition is one that no version will ever take.
            foreign = write(History(), ("like", ANA, PHOTO))
            await log.append("likes", key_of(BEN), foreign.value)
            letter = await _first_letter(log)
            said = await command(capsys, "retry", str(letter.id))
            assert f"{letter.event} is now likes/{letter.event.partition}/" in said
            again = await _first_letter(log, after=letter)
            assert again.order == letter.event.number
            assert "is dropped" in await command(capsys, "drop", str(again.id))
            assert "0 dead, 2 decided" in await command(capsys, "list")
        finally:
            going = False
    await running_millrace.process_all()
    edges = await edges_of(views)
    assert len(edges) == liked
    assert (PHOTO, ANA) not in {edge[:2] for edge in edges}


async def _first_letter(log: KafkaLog, after: Letter | None = None) -> Letter:
    """Waits for the projector to write a dead one."""
    async with asyncio.timeout(60):
        while True:
            for letter in await read_letters(log, ["likes.dead"]):
                if letter.state == DEAD and (after is None or letter.id != after.id):
                    return letter
