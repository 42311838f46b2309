"""Which action comes next, by a seed; and each action in plain words.

Each world has its own taste: how much of each kind, and some faults not at all, since a fault that
comes all the time hides what others would show.
"""

from random import Random
from typing import Any

from tests.simulation.world import Action, World

PROJECTORS = ("projector 1", "projector 2")
FANOUTS = ("fanout 1", "fanout 2")
TURNS = (1, 2, 3, 5, 10, 20, 50, 200)
PASSING_S = (0.05, 0.3, 1.1, 5.0, 20.0, 70.0)
GARBAGE = ("users", "media", "follows", "likes", "comments", "saves", "names", "vault")
DUPLICATED = ("users", "media", "follows", "likes", "comments", "saves", "names", "chunks.small")
USERS = 6
NAMES = 4
FAILING = {
    "views": ("before", "after", "slowly", "late"),
    "feeds": ("before", "after", "slowly"),
    "rows": ("before", "after", "slowly", "partly"),
    "log": ("before", "after", "slowly", "late"),
}
TIMES = (1, 1, 1, 3, 8)
REQUESTS = 40

# How much more or less of each thing a world has than the others, the first two for faults only.
TASTES = (0, 0, 0.2, 1, 4)

# By how often it comes, of all that are no turn of a processor.
CLIENTS: dict[str, int] = {
    "follow": 10, "unfollow": 4, "post": 9, "like": 8, "unlike": 3, "delete": 2, "caption": 2,
    "comment": 4, "uncomment": 2, "register": 5, "go_on": 6, "rename": 3, "profile": 2,
    "deactivate": 1, "reactivate": 1, "save": 3, "unsave": 1,
}  # fmt: skip
FAULTS: dict[str, int] = {
    "refuse": 3, "retry": 4, "garbage": 1, "duplicate": 2, "kill": 5, "pause": 2, "expel": 2,
    "share": 3, "repeat": 3, "fault": 9, "lose": 1, "copy": 4, "restore": 2, "forget": 5,
    "jump": 2,
}  # fmt: skip


class Actions:
    """Draws for one world, which it only looks at."""

    def __init__(self, random: Random, world: World) -> None:
        self._random = random
        self._world = world
        faults = {name: weight * random.choice(TASTES) for name, weight in FAULTS.items()}
        faults = {name: weight for name, weight in faults.items() if weight}
        clients = {name: weight * random.choice(TASTES[2:]) for name, weight in CLIENTS.items()}
        self._clients = (list(clients), list(clients.values()))
        self._faults = (list(faults), list(faults.values()))
        self._client_share = random.uniform(0.1, 0.35)
        self._fault_share = random.choice((0.01, 0.05, 0.2)) if faults else 0.0
        # Of few, more meet.
        self._users = random.randint(2, USERS)
        self._items = random.randint(1, 5)
        self._time_share = random.uniform(0.02, 0.12)
        # Where little time passes, more of it is on its way when something dies.
        self._passing_s = random.choice((PASSING_S[:4], PASSING_S))

    def next(self) -> Action:
        random = self._random
        drawn = random.random()
        if drawn < self._client_share:
            return self._client(random.choices(*self._clients)[0])
        drawn -= self._client_share
        if drawn < self._fault_share:
            return self._fault(random.choices(*self._faults)[0])
        drawn -= self._fault_share
        if drawn < self._time_share:
            return ("pass", random.choice(self._passing_s))
        drawn -= self._time_share
        if drawn < 0.01:
            return ("look",)
        if drawn < 0.03:
            return ("read", self._user(), random.choice(("", "replica", "backup")))
        return self._run()

    def _run(self) -> Action:
        """A part that has something to do; now and then what died or sleeps comes back."""
        random, world = self._random, self._world
        process = world.processes[random.choice(PROJECTORS + FANOUTS)]
        if process.dead:
            return ("start", process.name)
        if process.paused and random.random() < 0.1:
            return ("wake", process.name)
        for kind in ("views", "feeds", "log"):
            if kind in world.away and random.random() < 0.1:
                return ("find", kind)
        parts = [part for part, lane in process.lanes.items() if lane.ready]
        if not parts or process.paused:
            return ("pass", 0.3)
        return ("run", process.name, random.choice(parts), random.choice(TURNS))

    def _client(self, name: str) -> Action:
        random = self._random
        match name:
            case "follow" | "unfollow":
                return ("client", name, self._user(), self._user())
            case "like" | "unlike" | "save" | "unsave":
                return ("client", name, self._user(), random.randrange(self._items))
            case "post":
                return ("client", name, self._user(), random.randrange(2), self._request())
            case "comment":
                about = random.randrange(self._items)
                return (
                    "client", name, self._user(), random.randrange(2), about, self._request(),
                )  # fmt: skip
            case "delete" | "uncomment":
                return ("client", name, random.randrange(self._items))
            case "caption":
                return (
                    "client",
                    name,
                    random.randrange(self._items),
                    random.choice(("new", "newer")),
                )
            case "register":
                return ("client", name, random.randrange(NAMES))
            case "rename":
                return ("client", name, self._user(), random.randrange(NAMES))
            case "profile":
                return ("client", name, self._user(), random.randrange(10))
            case _:
                return ("client", name, self._user())

    def _fault(self, name: str) -> Action:
        random = self._random
        process = random.choice(PROJECTORS + FANOUTS)
        match name:
            case "refuse":
                if random.random() < 0.5:
                    return (name, "follow", self._user(), self._user())
                return (name, "like", self._user(), random.randrange(self._items))
            case "garbage":
                return (name, random.choice(GARBAGE), self._user())
            case "duplicate":
                topic = random.choice(DUPLICATED)
                return (name, topic, random.randrange(3), random.randrange(4))
            case "share":
                group = random.choice(list(self._world.groups))
                return (name, group, random.getrandbits(6), random.random() < 0.5)
            case "repeat":
                group = random.choice(list(self._world.groups))
                return (name, process, group, random.randrange(1, 4))
            case "fault":
                kind = random.choice(list(FAILING))
                when, times = random.choice(FAILING[kind]), random.choice(TIMES)
                return (name, process, kind, when, times)
            case "lose":
                return (name, random.choice(("views", "feeds", "log")))
            case "kill":
                # The worst moments are seldom, so they are looked for.
                writing = [one.name for one in self._world.processes.values() if one.writing]
                return (name, random.choice(writing or [process]))
            case "forget" if not self._world.feeds.fresh() and random.random() < 0.8:
                return self._run()
            case "restore" if self._world.copies:
                return (name, random.choice(list(self._world.copies)))
            case "copy" | "restore":
                return ("copy", random.choice(("replica", "backup")))
            case "expel":
                paused = [one.name for one in self._world.processes.values() if one.paused]
                return (name, random.choice(paused)) if paused else ("pause", process)
            case "forget":
                return (name, random.choice((0.1, 1.0, 10.0)))
            case "jump":
                who = random.choice((*PROJECTORS, *FANOUTS, "service 0", "service 1"))
                return (name, who, random.choice((-3_600_000, -61_000, -500, 500, 61_000)))
            case "retry":
                return (name,)
            case _:
                return (name, process)

    def _user(self) -> int:
        return self._random.randint(1, self._users)

    def _request(self) -> int:
        return self._random.randrange(REQUESTS)


def told(action: Action) -> str:
    """An action in plain words."""
    name, *values = action
    if name == "read":
        values = [values[0], values[1] or "views as they are served"]
    if name == "client":
        return _client_told(values[0], values[1:])
    return _TOLD[name].format(*values)


_TOLD = {
    "run": "{0}: {1} goes on for {2} turns",
    "pass": "{0} s pass",
    "settle": "all faults end and everybody catches up",
    "look": "the views are looked at",
    "read": "{0} reads the feed of the {1}",
    "start": "{0} starts",
    "wake": "{0} wakes up (SIGCONT)",
    "pause": "{0} is paused (SIGSTOP)",
    "kill": "{0} is killed (SIGKILL)",
    "expel": "the groups expel {0} if it is paused",
    "share": "group {0} shares its partitions anew by {1:b}, all are told at once: {2}",
    "repeat": "{0}: the reader of {1} gets its last {2} records once more",
    "fault": "{0}: a fault of its next call of the {1}: {2}, {3} times",
    "lose": "the {0} do not answer any more",
    "find": "the {0} answer again",
    "copy": "the {0} copies the views as they are now",
    "restore": "the {0} takes the place of the views",
    "forget": "a feed node dies and comes back without its last {0} s",
    "jump": "the wall clock of {0} jumps by {1} ms",
    "refuse": "the store refuses for now: {0} of {1} and {2}",
    "retry": "the oldest dead letter is tried again",
    "garbage": "garbage is appended to {0} under the key of {1}",
    "duplicate": "{0}/{1}: the record {2} before the last is appended once more",
}
_CLIENTS_TOLD = {
    "follow": "{0} follows {1}",
    "unfollow": "{0} unfollows {1}",
    "like": "{0} likes post -{1}",
    "unlike": "{0} unlikes post -{1}",
    "save": "{0} saves post -{1}",
    "unsave": "{0} saves post -{1} no more",
    "post": "{0} posts by service {1}, request {2}",
    "delete": "post -{0} is deleted",
    "caption": "post -{0} gets the caption {1!r}",
    "comment": "{0} comments on post -{2} by service {1}, request {3}",
    "uncomment": "comment -{0} is deleted",
    "register": "a user registers as name {0}; the service dies after the claim",
    "go_on": "the service of {0} does the next step of the registration or rename",
    "rename": "{0} claims the name {1}; the service dies after the claim",
    "profile": "{0} changes the profile to {1}",
    "deactivate": "{0} is deactivated",
    "reactivate": "{0} is reactivated",
}


def _client_told(name: str, values: list[Any]) -> str:
    return _CLIENTS_TOLD[name].format(*values)
