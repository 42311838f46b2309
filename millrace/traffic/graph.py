"""Follow graphs from files: one `follower followee` a line, people numbered from 0, maybe gzip."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from millrace.errors import InvalidRequest

_GZIP = b"\x1f\x8b"
_PEOPLE_MAX = 10_000_000
ZIPF = "zipf"
# Of a made graph: how many one follows on average, and how much rarer the k-th most followed is.
_FOLLOWEES = 20
_ZIPF_EXPONENT = 0.8

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Graph:
    """Edge i: person `follower[i]` follows `followee[i]`. Sorted by follower, then followee."""

    follower: Ids
    followee: Ids

    @property
    def people(self) -> int:
        """Highest number of a person, plus one."""
        return int(max(self.follower.max(), self.followee.max())) + 1 if self.follower.size else 0

    @property
    def followers_count(self) -> Ids:
        """By person: how many follow him."""
        return np.bincount(self.followee, minlength=self.people)

    @property
    def following_count(self) -> Ids:
        """By person: how many he follows."""
        return np.bincount(self.follower, minlength=self.people)

    def following(self) -> list[list[int]]:
        """By person: whom he follows, upwards."""
        parts = np.split(self.followee, np.cumsum(self.following_count))
        return [part.tolist() for part in parts[: self.people]]


def read_edges(file: Path) -> Graph:
    """Duplicates and people who follow themselves are left out.

    Raises InvalidRequest for a file that is not such a list.
    """
    data = file.read_bytes()
    try:
        text = gzip.decompress(data) if data.startswith(_GZIP) else data
        numbers = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError, EOFError, OSError, zlib.error) as error:
        raise InvalidRequest(f"{file.name} is no list of edges") from error
    if numbers.size % 2 or ((numbers < 0) | (numbers >= _PEOPLE_MAX)).any():
        raise InvalidRequest(f"{file.name} is no list of edges between people numbered from 0")
    follower, followee = numbers[0::2], numbers[1::2]
    others = follower != followee
    edges = np.unique(follower[others] * _PEOPLE_MAX + followee[others])
    return Graph(edges // _PEOPLE_MAX, edges % _PEOPLE_MAX)


def zipf_edges(people: int, seed: int) -> Graph:
    """A made graph: about 20 follows each, the k-th most followed person by Zipf's law."""
    dice = np.random.default_rng(seed)
    chances = np.arange(1, people + 1, dtype=np.float64) ** -_ZIPF_EXPONENT
    by_rank = dice.permutation(people)
    count = people * min(_FOLLOWEES, people - 1)
    follower = dice.integers(people, size=count)
    followee = by_rank[dice.choice(people, size=count, p=chances / chances.sum())]
    others = follower != followee
    edges = np.unique(follower[others] * people + followee[others])
    return Graph(edges // people, edges % people)


def following_of(graph: str, users: int, seed: int) -> list[list[int]]:
    """By person whom he follows, upwards: of a file those `users` whom most follow, or all where
    `users` is 0, in the file's order; of `zipf` as many made ones. Raises as `read_edges`.
    """
    if graph == ZIPF:
        if not users:
            raise InvalidRequest("a graph by Zipf's law needs the number of its users")
        made = zipf_edges(users, seed).following()
        return made + [[] for _ in range(users - len(made))]
    edges = read_edges(Path(graph))
    following = edges.following()
    if not following:
        raise InvalidRequest(f"nobody follows anybody in {graph}")
    if not users or users >= len(following):
        return following
    # Of equally many followers those who come first in the file.
    most = np.argsort(-edges.followers_count, kind="stable")[:users]
    numbers = {int(person): number for number, person in enumerate(np.sort(most))}
    return [[numbers[one] for one in following[person] if one in numbers] for person in numbers]


def read_graph(file: Path) -> list[list[int]]:
    """By person: whom he follows, upwards. Raises as `read_edges`."""
    return read_edges(file).following()
