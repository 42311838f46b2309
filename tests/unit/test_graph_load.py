"""A follow graph as events: what the log then says, on the log's twin in memory."""

from pathlib import Path

from millrace.auth.keys import ensure_keys
from millrace.clock import ManualClock, SystemClock
from millrace.log.create import start_log
from millrace.log.memory import MemoryLog
from millrace.settings import Settings
from millrace.traffic import people
from millrace.traffic.graph_load import load_graph
from millrace.traffic.history import read_history
from millrace.traffic.record import Edge

FOLLOWING = [[1, 2], [2], []]


async def test_people_have_names_and_follow_as_the_graph_says(tmp_path: Path) -> None:
    settings = Settings(argon2_memory_kib=64, argon2_time_cost=1, keys_dir=str(tmp_path))
    log, keys = MemoryLog(4), ensure_keys(tmp_path)
    await start_log(log, SystemClock(), settings.user_id_block)
    ids = await load_graph(log, keys, ManualClock(), settings, FOLLOWING, told=lambda _: None)
    history = await read_history(log, keys.master)
    oracle = history.oracle
    assert len(set(ids)) == len(FOLLOWING)
    assert [oracle.handle(user_id) for user_id in ids] == [people.handle(i) for i in range(3)]
    assert [oracle.users[user_id].display_name for user_id in ids] == [
        people.display_name(i) for i in range(3)
    ]
    assert {user_id: oracle.following[user_id] for user_id in ids} == {
        ids[0]: {ids[1], ids[2]},
        ids[1]: {ids[2]},
        ids[2]: set(),
    }
    assert history.edges[Edge("follows", ids[0], ids[1], live=True)] == 1
    assert sum(history.dead_letters.values()) == 0


async def test_a_graph_of_nobody_is_nothing(tmp_path: Path) -> None:
    settings = Settings(argon2_memory_kib=64, argon2_time_cost=1, keys_dir=str(tmp_path))
    log, keys = MemoryLog(4), ensure_keys(tmp_path)
    await start_log(log, SystemClock(), settings.user_id_block)
    assert await load_graph(log, keys, ManualClock(), settings, [], told=lambda _: None) == []
