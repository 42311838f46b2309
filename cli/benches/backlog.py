"""What the fanout bench posts: each author of a real graph once, cut into rounds of equal work."""

from collections.abc import Iterator

import numpy as np

from cli.benches.population import posts_of
from millrace.clock import SystemClock
from millrace.ids import IdMint
from millrace.log.partitioner import key_of
from millrace.log.port import NewRecord
from millrace.traffic.graph import Graph
from social.log.v1.follows_pb2 import FollowsEvent, UserFollowed


class Backlog:
    """`posts` of each round: authors in an order of a fixed seed, cut so that rounds have about
    the same number of rows.
    """

    def __init__(self, graph: Graph, rounds: int, rows_a_round: int, partitions: int) -> None:
        """Fewer rows where the graph has not as many follows."""
        counts = graph.followers_count
        by_followee = graph.follower[np.argsort(graph.followee, kind="stable")]
        self._followers = np.split(by_followee, np.cumsum(counts)[:-1])
        order = np.random.default_rng(1).permutation(graph.people)
        wanted = min(rows_a_round, graph.follower.size // rounds)
        ends = np.searchsorted(
            np.cumsum(counts[order]), np.arange(1, rounds + 1) * wanted, side="right"
        )
        parts = np.split(order, ends)[:rounds]
        mint = IdMint(SystemClock())
        self.posts = [posts_of((part + 1).tolist(), mint, partitions) for part in parts]

    def rows(self, number: int) -> list[tuple[int, int, int]]:
        """(user, media, author) that the posts of a round owe."""
        return [
            (int(follower) + 1, post.media_id, post.author_id)
            for post in self.posts[number]
            for follower in self._followers[post.author_id - 1]
        ]


def followed(graph: Graph) -> Iterator[NewRecord]:
    """User ids are the people's numbers, plus one; nobody needs to be registered for a feed row."""
    at_ms = SystemClock().now_ms()
    for follower, followee in zip(graph.follower.tolist(), graph.followee.tolist(), strict=True):
        followed = UserFollowed(follower_id=follower + 1, followee_id=followee + 1, at_ms=at_ms)
        yield NewRecord(key_of(follower + 1), FollowsEvent(followed=followed).SerializeToString())
