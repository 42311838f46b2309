"""The mix of the traffic: how often each RPC is called, in proportion to the others.

`talk` is the default: Instagram's 4 billion likes to 100 million uploads a day in 2017; the other
writes and the reads are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from millrace.errors import InvalidRequest


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


# What `--mix` calls them. LogIn is not drawn: everybody who comes online logs in once.
NAMES: dict[str, Rpc] = {
    "uploads": Rpc.UPLOAD,
    "likes": Rpc.LIKE,
    "unlikes": Rpc.UNLIKE,
    "follows": Rpc.FOLLOW,
    "unfollows": Rpc.UNFOLLOW,
    "comments": Rpc.COMMENT,
    "registrations": Rpc.REGISTER,
    "profiles": Rpc.UPDATE_PROFILE,
    "feed": Rpc.GET_FEED,
    "downloads": Rpc.DOWNLOAD,
    "media": Rpc.LIST_MEDIA,
    "users": Rpc.GET_USERS,
    "likers": Rpc.LIST_LIKERS,
    "comment-lists": Rpc.LIST_COMMENTS,
}
READS = frozenset(
    (
        Rpc.GET_FEED,
        Rpc.DOWNLOAD,
        Rpc.LIST_MEDIA,
        Rpc.GET_USERS,
        Rpc.LIST_LIKERS,
        Rpc.LIST_COMMENTS,
    )
)
_MIXES = {
    "talk": "uploads=1,likes=40,feed=20,downloads=6,media=3,users=2,follows=1.5,unlikes=1,likers=1,"
    "comments=2,comment-lists=2,unfollows=0.5,registrations=0.4,profiles=0.2",
    "reads": "uploads=1,likes=10,follows=1,comments=1,feed=100,downloads=30,media=15,users=10,"
    "likers=3,comment-lists=10",
    "likes": "uploads=1,likes=40",
}


@dataclass(frozen=True, slots=True)
class Mix:
    """`weights`: calls of each RPC to those of the others. `name`: as it was asked for."""

    name: str
    weights: Mapping[Rpc, float]

    @property
    def shares(self) -> dict[Rpc, float]:
        """Of all calls, the most frequent first; together 1."""
        total = sum(self.weights.values())
        ordered = sorted(self.weights.items(), key=lambda item: -item[1])
        return {rpc: weight / total for rpc, weight in ordered}

    def with_reads(self, reads: float) -> "Mix":
        """The same writes, and so many reads to one of them. Raises InvalidRequest."""
        of_reads = sum(weight for rpc, weight in self.weights.items() if rpc in READS)
        of_writes = sum(self.weights.values()) - of_reads
        if not 0 <= reads < float("inf") or not of_writes or (reads and not of_reads):
            raise InvalidRequest(f"no {reads:g} reads a write can be made of mix {self.name!r}")
        times = reads * of_writes / of_reads if of_reads else 1.0
        weights = {r: w * times if r in READS else w for r, w in self.weights.items()}
        return Mix(f"{self.name}, {reads:g} reads a write", {r: w for r, w in weights.items() if w})


def mix_of(text: str) -> Mix:
    """A mix by its name, or `likes=40,uploads=1,feed=100`. Raises InvalidRequest, which lists what
    there is.
    """
    weights: dict[Rpc, float] = {}
    for part in _MIXES.get(text, text).split(","):
        name, _, weight = part.strip().partition("=")
        try:
            weights[NAMES[name]] = float(weight)
        except (KeyError, ValueError):
            raise InvalidRequest(
                f"mix {text!r} is none of {', '.join(_MIXES)}, nor NAME=WEIGHT,… with the names"
                f" {', '.join(NAMES)}"
            ) from None
    if not all(0 <= weight < float("inf") for weight in weights.values()):
        raise InvalidRequest(f"mix {text!r}: a weight is a number from 0 on")
    weights = {rpc: weight for rpc, weight in weights.items() if weight}
    if not weights:
        raise InvalidRequest(f"mix {text!r} has no call")
    return Mix(text, weights)


TALK = mix_of("talk")
