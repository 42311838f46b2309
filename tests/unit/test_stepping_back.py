"""Where delivery begins again after a node came back."""

from millrace.stores.feed_port import MinutePosition, NodeSeen
from streams.stepping_back import NodeWatch, start_position

SAME = {"a": NodeSeen(1, 50)}
BACK = {"a": NodeSeen(2, 1)}


def minutes(*rows: tuple[int, int, int]) -> list[MinutePosition]:
    """(minute, number, generation of node a; 0 = not seen), newest first."""
    return [MinutePosition(m, number, {"a": g} if g else {}) for m, number, g in rows]


def test_the_stored_position_counts_while_nodes_stay() -> None:
    assert start_position(90, minutes((12, 80, 1), (11, 70, 1)), SAME) == 90
    assert start_position(0, [], SAME) == 0


def test_the_lowest_of_the_minute_before_the_last_in_which_it_was_seen() -> None:
    history = minutes((13, 80, 1), (12, 70, 1), (11, 60, 1))
    assert start_position(90, history, BACK) == 70


def test_a_node_that_was_long_dead() -> None:
    history = minutes((40, 90, 0), (39, 80, 0), (12, 50, 1), (11, 40, 1), (10, 30, 1))
    assert start_position(95, history, BACK) == 40


def test_minutes_without_a_row_lie_before() -> None:
    assert start_position(90, minutes((13, 80, 1), (7, 20, 1), (6, 10, 1)), BACK) == 20


def test_the_oldest_minute_is_the_start_of_all_deliveries() -> None:
    assert start_position(90, minutes((13, 80, 1)), BACK) == 80


def test_what_an_earlier_step_back_delivered_again_is_delivered_once_more() -> None:
    # In minute 13 delivery went back to 15, and was killed again at 40.
    assert start_position(40, minutes((13, 15, 1), (12, 70, 1), (11, 60, 1)), BACK) == 15


def test_the_node_that_was_seen_longest_ago_decides() -> None:
    history = [
        MinutePosition(13, 80, {"a": 1}),
        MinutePosition(12, 70, {"a": 1, "b": 5}),
        MinutePosition(11, 60, {"a": 1, "b": 5}),
    ]
    back = {"a": NodeSeen(2, 1), "b": NodeSeen(6, 1)}
    assert start_position(90, history, back) == 60


def test_a_new_node_and_stale_gossip_move_nothing() -> None:
    history = minutes((13, 80, 5), (12, 70, 5))
    assert start_position(90, history, {"a": NodeSeen(4, 9), "new": NodeSeen(7, 1)}) == 90


def test_only_a_heart_that_beats_is_alive() -> None:
    watch = NodeWatch(silent_s=10)
    assert watch.look({"a": NodeSeen(1, 50), "dead": NodeSeen(1, 7)}, 0)
    assert watch.alive(0) == {}
    assert watch.look({"a": NodeSeen(1, 51), "dead": NodeSeen(1, 7)}, 1)
    assert watch.alive(2) == {"a": 1}
    assert watch.alive(12) == {}


def test_a_new_generation_is_noticed() -> None:
    watch = NodeWatch(silent_s=10)
    assert watch.look(SAME, 0)
    assert not watch.look(BACK, 1)


def test_nodes_that_nobody_recorded_are_recorded_at_once() -> None:
    watch = NodeWatch(silent_s=10)
    watch.look({"a": NodeSeen(2, 1), "b": NodeSeen(3, 1)}, 0)
    assert watch.to_record_first(minutes((13, 80, 1))) == {"a": 2, "b": 3}
    assert watch.to_record_first(minutes((13, 80, 2))) == {"b": 3}
