"""The plan of the traffic: who does what when, by a seed, before anything is sent.

Starts are a Poisson process, so that the load does not wait for the answers (open loop). People
come online one after another; likes go to media of those whom one follows, newest first and by
Zipf's law, and some to what everybody likes. Proportions are those of Instagram in 2017: 4 billion
likes to 100 million uploads a day; the reads and the comments are ours.
"""

import bisect
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Rpc(StrEnum):
    LOG_IN = "LogIn"
    REGISTER = "Register"
    UPDATE_PROFILE = "UpdateProfile"
    GET_USERS = "GetUsers"
    FOLLOW = "Follow"
    UNFOLLOW = "Unfollow"
    UPLOAD = "UploadMedia"
    LIST_MEDIA = "ListUserMedia"
    DOWNLOAD = "DownloadMedia"
    LIKE = "LikeMedia"
    UNLIKE = "UnlikeMedia"
    LIST_LIKERS = "ListLikers"
    COMMENT = "AddComment"
    LIST_COMMENTS = "ListComments"
    GET_FEED = "GetFeed"


# Calls to one upload. LogIn is not drawn: everybody who comes online logs in once.
PER_UPLOAD: dict[Rpc, float] = {
    Rpc.UPLOAD: 1.0,
    Rpc.LIKE: 40.0,
    Rpc.GET_FEED: 20.0,
    Rpc.DOWNLOAD: 6.0,
    Rpc.LIST_MEDIA: 3.0,
    Rpc.GET_USERS: 2.0,
    Rpc.FOLLOW: 1.5,
    Rpc.UNLIKE: 1.0,
    Rpc.LIST_LIKERS: 1.0,
    Rpc.COMMENT: 2.0,
    Rpc.LIST_COMMENTS: 2.0,
    Rpc.UNFOLLOW: 0.5,
    Rpc.REGISTER: 0.4,
    Rpc.UPDATE_PROFILE: 0.2,
}
# Until then a person's log-in, or an upload, counts as not there yet for those who would use it.
SETTLED_AFTER_S = 2.0
# Calls about an upload, drawn as likes are.
ABOUT_UPLOADS = (Rpc.LIKE, Rpc.DOWNLOAD, Rpc.LIST_LIKERS, Rpc.COMMENT, Rpc.LIST_COMMENTS)
# The first media come early, so that there is something to like.
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
class Plan:
    """`actions` by time. `people`: the graph's and the newcomers."""

    seed: int
    seconds: float
    actions: tuple[Action, ...]
    people: int
    uploads: int


def make_plan(
    following: Sequence[Sequence[int]],
    *,
    seed: int,
    seconds: float,
    rate: float,
    actors: int,
) -> Plan:
    """`following[i]`: whom person i follows. `rate`: calls a second; `actors`: who come online."""
    dice = random.Random(seed)  # noqa: S311  a plan that can be repeated, no secret
    return _Planner(following, dice, actors).plan(seed, seconds, rate)


class _Planner:
    def __init__(
        self, following: Sequence[Sequence[int]], dice: random.Random, actors: int
    ) -> None:
        self._dice = dice
        self._actors = actors
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
        self._seen: dict[int, list[int]] = {}  # ordinals of uploads of followees, oldest first
        self._hot: list[tuple[int, int]] = []  # (-followers of the author, ordinal)
        self._liked: dict[int, list[int]] = {}

    def plan(self, seed: int, seconds: float, rate: float) -> Plan:
        arrivals = self._arrivals(seconds)
        kinds, weights = list(PER_UPLOAD), list(PER_UPLOAD.values())
        now_s = 0.0
        while (now_s := now_s + self._dice.expovariate(rate)) < seconds:
            while arrivals and arrivals[0][0] <= now_s:
                at_s, person = arrivals.popleft()
                self._do(at_s, Rpc.LOG_IN, person)
                self._settle_later(at_s, "person", person)
            self._settle(now_s)
            if self._online:
                early = len(self._uploads) < _FIRST_UPLOADS
                rpc = Rpc.UPLOAD if early else self._dice.choices(kinds, weights)[0]
                self._draw(now_s, rpc)
        actions = tuple(sorted(self._actions, key=lambda action: action.at_s))
        return Plan(seed, seconds, actions, self._people, len(self._uploads))

    def _arrivals(self, seconds: float) -> deque[tuple[float, int]]:
        """Who comes online when: the followed more often than others (weights without return)."""
        graph = range(len(self._followers))
        keys = [self._dice.random() ** (1 / (1 + len(self._followers[i]))) for i in graph]
        chosen = sorted(graph, key=lambda i: -keys[i])[: self._actors]
        self._dice.shuffle(chosen)
        step_s = seconds * _ARRIVALS_END / max(len(chosen), 1)
        return deque((i * step_s, person) for i, person in enumerate(chosen))

    def _settle_later(self, now_s: float, what: str, which: int) -> None:
        self._settling.append((now_s + SETTLED_AFTER_S, what, which))

    def _settle(self, now_s: float) -> None:
        while self._settling and self._settling[0][0] <= now_s:
            at_s, what, which = self._settling.popleft()
            if what == "person":
                self._come_online(at_s, which)
            else:
                self._show(which)

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
            self._seen.setdefault(follower, []).append(upload)
        bisect.insort(self._hot, (-len(followers), upload))

    def _draw(self, now_s: float, rpc: Rpc, actor: int = -1) -> None:
        """One call of this kind, by this actor or by anybody; a feed read when it has no target."""
        if actor < 0:
            actor = self._dice.choice(self._online)
        target = -1
        if rpc is Rpc.REGISTER:
            actor, self._people = self._people, self._people + 1
            self._settle_later(now_s, "person", actor)
        elif rpc is Rpc.UPLOAD:
            actor = self._dice.choices(self._online, cum_weights=self._fame)[0]
            target = len(self._uploads)
            self._uploads.append(actor)
            self._settle_later(now_s, "upload", target)
        elif rpc not in (Rpc.GET_FEED, Rpc.UPDATE_PROFILE):
            target = self._target(rpc, actor)
            if target < 0:
                rpc = Rpc.GET_FEED
        self._do(now_s, rpc, actor, target)

    def _target(self, rpc: Rpc, actor: int) -> int:
        if rpc in ABOUT_UPLOADS:
            upload = self._upload_for(actor)
            if rpc is Rpc.LIKE and upload >= 0:
                self._liked.setdefault(actor, []).append(upload)
            return upload
        if rpc is Rpc.UNLIKE:
            liked = self._liked.get(actor)
            return liked.pop(self._dice.randrange(len(liked))) if liked else -1
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

    def _upload_for(self, actor: int) -> int:
        """By Zipf's law: of those whom the actor follows the newest, else the most famous."""
        rank = int(self._dice.paretovariate(_ZIPF)) - 1
        seen = self._seen.get(actor)
        if seen and self._dice.random() > _HOT_LIKES:
            return seen[-1 - rank % len(seen)]
        return self._hot[rank % len(self._hot)][1] if self._hot else -1

    def _do(self, at_s: float, rpc: Rpc, actor: int, target: int = -1) -> None:
        self._actions.append(Action(at_s, rpc, actor, target))
