"""Deliveries packed into chunks: many small posts to a chunk, a large one over many.

Pure. Not: which lane a chunk takes, and when it is written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from social.log.v1.feed_pb2 import FeedChunk

# A chunk of many posts names a few of their traces: enough to find one that is looked for in a
# quiet system, and bounded in a busy one.
TRACES_MAX = 8


@dataclass(frozen=True, slots=True)
class Post:
    """A post that stands: `number` is that of its MediaUploaded event."""

    media_id: int
    author_id: int
    number: int
    trace: str = ""


@dataclass(slots=True)
class Chunk:
    message: FeedChunk
    traces: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return len(self.message.follower_ids)


class ChunkPacker:
    """Collects the rows of one lane of one media partition."""

    def __init__(self, partition: int, rows_max: int) -> None:
        self._partition = partition
        self._rows_max = rows_max
        self._open = self._new()

    def add(self, post: Post, follower_ids: Sequence[int]) -> Iterator[Chunk]:
        """The chunks that become full by these rows."""
        start = 0
        while start < len(follower_ids):
            chunk = self._open
            some = follower_ids[start : start + self._rows_max - chunk.rows]
            start += len(some)
            chunk.message.follower_ids.extend(some)
            chunk.message.media_ids.extend([post.media_id] * len(some))
            chunk.message.author_ids.extend([post.author_id] * len(some))
            if post.trace and post.trace not in chunk.traces and len(chunk.traces) < TRACES_MAX:
                chunk.traces.append(post.trace)
            if chunk.rows == self._rows_max:
                self._open = self._new()
                yield chunk

    def rest(self) -> Iterator[Chunk]:
        """The chunk that is not full, if it has any rows."""
        if self._open.rows:
            chunk, self._open = self._open, self._new()
            yield chunk

    def _new(self) -> Chunk:
        return Chunk(FeedChunk(partition=self._partition))
