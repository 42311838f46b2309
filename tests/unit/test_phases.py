"""The bench's phases: what each step took, from what was told."""

from cli.benches.phases import Phases


def test_a_step_has_what_was_spent_until_the_next_one_begins() -> None:
    spent = {"bench": 0.0}
    phases = Phases(lambda: dict(spent))
    phases.told("copying", 0, 10)
    spent["bench"] += 20
    phases.told("copying", 5, 10)
    spent.update(bench=40, postgres=10)
    phases.told("keys", 0, 0)
    spent["postgres"] += 30
    phases.told("", 0, 0)
    assert [(phase.name, dict(phase.cpu_us)) for phase in phases.found] == [
        ("copying", {"bench": 40.0, "postgres": 10.0}),
        ("keys", {"bench": 0.0, "postgres": 30.0}),
    ]
    assert "(bench 4.0, postgres 1.0); keys" in phases.story(10)
