"""The plan of the traffic: who does what when, by a seed, whatever the answers will be.

Starts are `arrivals`, so that the load does not wait for the answers (open loop). Likes go to media
of those whom one follows, newest first and by Zipf's law, and some to what everybody likes. The
plan is made as it is played, and every process makes the same one; what a person remembers of it
is bounded.
"""

import bisect
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from millrace.traffic.arrivals import Burst, arrivals
from millrace.traffic.mix import TALK, Mix, Rpc

# Until then a person's log-in, or an upload, counts as not there yet for those who would use it.
SETTLED_AFTER_S = 2.0
# Calls about an upload, drawn as likes are.
ABOUT_UPLOADS = (Rpc.LIKE, Rpc.DOWNLOAD, Rpc.LIST_LIKERS, Rpc.COMMENT, Rpc.LIST_COMMENTS)
# A celebrity posts, and for so long this share of the calls about uploads is about that post.
RUSH_S, _RUSH = 10.0, 0.5
# What a person remembers: the newest uploads of those whom he follows, what he liked last.
_SEEN_MAX, _LIKED_MAX, _HOT_MAX = 200, 100, 1_000
# The first media come early, or before, so that there is something to like.
_FIRST_UPLOADS = 12
_ARRIVALS_END = 0.75  # of the whole time
_HOT_LIKES = 0.15  # of all likes
_FIRST_FOLLOWS = 3
_ZIPF = 0.5  # the k-th is drawn as often as k^-1.5


@dataclass(frozen=True, slots=True)
class Action:
    """One call. `actor`: index of a person; below the graph's size one of the graph, else a
    newcomer. `target`: an upload's ordinal for what is about an upload; a person otherwise; -1
    for none. An upload's own ordinal is its target.
    """

    at_s: float
    rpc: Rpc
    actor: int
    target: int = -1


@dataclass(frozen=True, slots=True)
class PlanOrder:
    """`rate`: calls a second; `actors`: how many of the graph come online. Where `arriving`, one
    after another, and nothing is there to see; else all are there, and some uploads. Where
    `celebrity_every_s` is not 0, whom most follow posts so often.
    """

    seed: int
    seconds: float
    rate: float
    actors: int
    mix: Mix = TALK
    burst: Burst | None = None
    celebrity_every_s: float = 0.0
    arriving: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """`actions` by time, all at once."""

    seed: int
    seconds: float
    actions: tuple[Action, ...]
    uploads: int


def make_plan(
    following: Sequence[Sequence[int]],
    *,
    seed: int,
    seconds: float,
    rate: float,
    actors: int,
) -> Plan:
    """`following[i]`: whom person i follows. People come online one after another."""
    order = PlanOrder(seed, seconds, rate, actors, arriving=True)
    actions = tuple(planned(following, order))
    uploads = sum(action.rpc is Rpc.UPLOAD for action in actions)
    return Plan(seed, seconds, actions, uploads)


def planned(following: Sequence[Sequence[int]], order: PlanOrder) -> Iterator[Action]:
    """The actions by time, made as they are asked for."""
    return _Planner(following, order).actions()


def online(following: Sequence[Sequence[int]], order: PlanOrder) -> list[int]:
    """Who of the graph come online, in this order."""
    return _Planner(following, order).chosen


def posted(following: Sequence[Sequence[int]], order: PlanOrder) -> list[int]:
    """The authors of what was uploaded before the plan begins, by the uploads' ordinals."""
    return _Planner(following, order).posted


@dataclass(slots=True)
class _Rush:
    """What everybody looks at until then."""

    upload: int = -1
    until_s: float = 0.0


@dataclass(slots=True)
class _Celebrity:
    person: int = -1
    posts_at_s: float = float("inf")
    posts: set[int] = field(default_factory=set)


class _Planner:
    def __init__(self, following: Sequence[Sequence[int]], order: PlanOrder) -> None:
        dice = random.Random(order.seed)  # noqa: S311  a plan that can be repeated, no secret
        self._dice = dice
        self._order = order
        self._follows: dict[int, list[int]] = {i: list(f) for i, f in enumerate(following)}
        self._followers: list[list[int]] = [[] for _ in following]
        for follower, followees in enumerate(following):
            for followee in followees:
                self._followers[followee].append(follower)
        self._people = len(following)
        self._actions: list[Action] = []
        self._online: list[int] = []
        self._fame: list[float] = []  # running sums over those online, for drawing authors
        self._uploads: list[int] = []  # author by ordinal
        self._settling: deque[tuple[float, str, int]] = deque()
        self._seen: dict[int, deque[int]] = {}  # ordinals of uploads of followees, oldest first
        self._hot: list[tuple[int, int]] = []  # (-followers of the author, ordinal)
        self._liked: dict[int, deque[int]] = {}
        self.chosen = self._choose()
        self._rush = _Rush()
        self._celebrity = _Celebrity()
        self.posted = [] if order.arriving else self._post_before()
        if self.chosen and order.celebrity_every_s:
            person = max(self.chosen, key=lambda i: len(self._followers[i]))
            self._celebrity = _Celebrity(person, order.celebrity_every_s / 2)

    def actions(self) -> Iterator[Action]:
        order = self._order
        coming = self._coming() if order.arriving else deque[tuple[float, int]]()
        kinds, weights = list(order.mix.weights), list(order.mix.weights.values())
        for now_s in arrivals(self._dice, order.rate, order.seconds, order.burst):
            while coming and coming[0][0] <= now_s:
                at_s, person = coming.popleft()
                self._do(at_s, Rpc.LOG_IN, person)
                self._settle_later(at_s, "person", person)
            self._settle(now_s)
            self._celebrate(now_s)
            if self._online:
                early = len(self._uploads) < _FIRST_UPLOADS
                rpc = Rpc.UPLOAD if early else self._dice.choices(kinds, weights)[0]
                self._draw(now_s, rpc)
            self._actions.sort(key=lambda action: action.at_s)
            yield from self._actions
            self._actions.clear()

    def _choose(self) -> list[int]:
        """Who comes online: the followed more often than others (weights without return)."""
        graph = range(len(self._followers))
        keys = [self._dice.random() ** (1 / (1 + len(self._followers[i]))) for i in graph]
        chosen = sorted(graph, key=lambda i: -keys[i])[: self._order.actors]
        self._dice.shuffle(chosen)
        return chosen

    def _post_before(self) -> list[int]:
        """All come online, and the first uploads are there."""
        for person in self.chosen:
            self._come_online(0.0, person)
        if self.chosen:
            self._uploads = self._dice.choices(
                self._online, cum_weights=self._fame, k=_FIRST_UPLOADS
            )
        for upload in range(len(self._uploads)):
            self._show(upload)
        return list(self._uploads)

    def _coming(self) -> deque[tuple[float, int]]:
        step_s = self._order.seconds * _ARRIVALS_END / max(len(self.chosen), 1)
        return deque((i * step_s, person) for i, person in enumerate(self.chosen))

    def _celebrate(self, now_s: float) -> None:
        """The celebrity posts when it is time."""
        celebrity = self._celebrity
        while celebrity.posts_at_s <= now_s:
            celebrity.posts.add(len(self._uploads))
            self._upload(celebrity.posts_at_s, celebrity.person)
            celebrity.posts_at_s += self._order.celebrity_every_s

    def _settle_later(self, now_s: float, what: str, which: int) -> None:
        self._settling.append((now_s + SETTLED_AFTER_S, what, which))

    def _settle(self, now_s: float) -> None:
        while self._settling and self._settling[0][0] <= now_s:
            at_s, what, which = self._settling.popleft()
            if what == "person":
                self._come_online(at_s, which)
            else:
                self._show(which)
                if which in self._celebrity.posts:
                    self._rush = _Rush(which, at_s + RUSH_S)

    def _come_online(self, at_s: float, person: int) -> None:
        self._online.append(person)
        fame = 1.0 + (len(self._followers[person]) if person < len(self._followers) else 0)
        self._fame.append((self._fame[-1] if self._fame else 0.0) + fame)
        if person >= len(self._followers):
            for _ in range(_FIRST_FOLLOWS):
                self._draw(at_s, Rpc.FOLLOW, person)

    def _show(self, upload: int) -> None:
        author = self._uploads[upload]
        followers = self._followers[author] if author < len(self._followers) else []
        for follower in (author, *followers):
            self._seen.setdefault(follower, deque(maxlen=_SEEN_MAX)).append(upload)
        bisect.insort(self._hot, (-len(followers), upload))
        del self._hot[_HOT_MAX:]

    def _draw(self, now_s: float, rpc: Rpc, actor: int = -1) -> None:
        """One call of this kind, by this actor or by anybody; a feed read when it has no target."""
        if actor < 0:
            actor = self._dice.choice(self._online)
        target = -1
        if rpc is Rpc.REGISTER:
            actor, self._people = self._people, self._people + 1
            self._settle_later(now_s, "person", actor)
        elif rpc is Rpc.UPLOAD:
            self._upload(now_s, self._dice.choices(self._online, cum_weights=self._fame)[0])
            return
        elif rpc not in (Rpc.GET_FEED, Rpc.UPDATE_PROFILE):
            target = self._target(rpc, actor, now_s)
            if target < 0:
                rpc = Rpc.GET_FEED
        self._do(now_s, rpc, actor, target)

    def _upload(self, now_s: float, author: int) -> None:
        target = len(self._uploads)
        self._uploads.append(author)
        self._settle_later(now_s, "upload", target)
        self._do(now_s, Rpc.UPLOAD, author, target)

    def _target(self, rpc: Rpc, actor: int, now_s: float) -> int:
        if rpc in ABOUT_UPLOADS:
            upload = self._upload_for(actor, now_s)
            if rpc is Rpc.LIKE and upload >= 0:
                self._liked.setdefault(actor, deque(maxlen=_LIKED_MAX)).append(upload)
            return upload
        if rpc is Rpc.UNLIKE:
            liked = self._liked.get(actor)
            if not liked:
                return -1
            liked.rotate(self._dice.randrange(len(liked)))
            return liked.pop()
        if rpc is Rpc.UNFOLLOW:
            followees = self._follows.get(actor)
            return followees.pop(self._dice.randrange(len(followees))) if followees else -1
        person = self._dice.choices(self._online, cum_weights=self._fame)[0]
        if rpc is Rpc.FOLLOW:
            followees = self._follows.setdefault(actor, [])
            if person == actor or person in followees:
                return -1
            followees.append(person)
        return person

    def _upload_for(self, actor: int, now_s: float) -> int:
        """By Zipf's law: of those whom the actor follows the newest, else the most famous."""
        if now_s < self._rush.until_s and self._dice.random() < _RUSH:
            return self._rush.upload
        rank = int(self._dice.paretovariate(_ZIPF)) - 1
        seen = self._seen.get(actor)
        if seen and self._dice.random() > _HOT_LIKES:
            return seen[-1 - rank % len(seen)]
        return self._hot[rank % len(self._hot)][1] if self._hot else -1

    def _do(self, at_s: float, rpc: Rpc, actor: int, target: int = -1) -> None:
        self._actions.append(Action(at_s, rpc, actor, target))
