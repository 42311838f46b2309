"""The oracle's word about a slice of users or media: fed with what concerns them, nothing else.

Held in memory: the members of each relation of the slice's keys, in both directions. Above
`members_max` keys are left to the next slice; one key alone is held whole.

Not: feeds, which need the media of others (`streams/audit/feeds.py`).
"""

from collections.abc import Container
from dataclasses import dataclass, field

from google.protobuf.message import Message

from millrace.log.codec import Event
from millrace.oracle import Oracle
from social.log.v1 import comments_pb2, media_pb2, users_pb2
from streams.audit.keys import Keys, Room
from streams.audit.relations import RELATIONS, members


@dataclass(slots=True)
class Touched:
    """What events after the position touched, by (relation, key): it may be there or not."""

    members: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    count: int = 0

    def add(self, relation: str, key: int, member: int) -> None:
        self.members.setdefault((relation, key), set()).add(member)
        self.count += 1

    def of(self, relation: str, key: int) -> set[int]:
        return self.members.get((relation, key), set())


class Slice:
    """`of`: users or media. `topics`: those that are read, in this order."""

    def __init__(self, of: str, keys: Keys, members_max: int, topics: Container[str]) -> None:
        self.oracle = Oracle()
        self.keys = keys
        self.relations = [one for one in RELATIONS if one.of == of and one.topic in topics]
        self.touched = Touched()
        self._of = of
        self._names = {one.name for one in self.relations}
        self._room = Room(keys, members_max, self._sweep)
        # Ids and requests that the slice's keys share with others: who was first decides.
        self._shared: set[object] = set()

    def begin(self) -> None:
        """Before each topic: nothing to prepare."""

    def note(self, event: Event) -> None:
        """In a pass of its own before `feed`, where the keys were chosen."""
        match event.message:
            case media_pb2.MediaUploaded() as shown if shown.author_id in self.keys:
                self._shared.add(shown.media_id)
            case comments_pb2.CommentAdded() as said if said.media_id in self.keys:
                self._shared |= {said.comment_id, (said.author_id, said.request_id)}

    def feed(self, event: Event) -> None:
        if not self._concerned(event.message):
            return
        self.oracle.apply(event.message, number=event.number)
        self._room.add()

    def touch(self, event: Event) -> int:
        """An event after the position; how many members are touched by now."""
        for relation, key, member in members(event.message):
            if relation in self._names and key in self.keys:
                self.touched.add(relation, key, member)
        return self.touched.count

    def _concerned(self, message: Message) -> bool:
        match message:
            case users_pb2.UserRegistered() if self._of == "users":
                self.keys.take(message.user_id)
                return False
            case media_pb2.MediaUploaded() if self._of == "media":
                self.keys.take(message.media_id)
                return False
        of_ours = [self.keys.take(key) for name, key, _ in members(message) if name in self._names]
        return any(of_ours) or (bool(self._shared) and self._is_shared(message))

    def _is_shared(self, message: Message) -> bool:
        match message:
            case media_pb2.MediaUploaded() | media_pb2.MediaDeleted():
                return message.media_id in self._shared
            case comments_pb2.CommentAdded():
                request = (message.author_id, message.request_id)
                return message.comment_id in self._shared or request in self._shared
            case comments_pb2.CommentDeleted():
                return message.comment_id in self._shared
        return False

    def _sweep(self) -> int:
        oracle, keys = self.oracle, self.keys
        of_users: Container[object] = keys if self._of == "users" else ()
        of_media: Container[object] = keys if self._of == "media" else ()
        _keep(oracle.following, of_users, of_users)
        _keep(oracle.followers, of_users, of_users)
        _keep(oracle.likers, of_media, of_users)
        _keep(oracle.liked, of_users, of_media)
        _keep(oracle.media_of, of_users, ())
        _keep(oracle.comments_of, of_media, ())
        _keep(oracle.saved, of_users, ())
        media, comments = oracle.media, oracle.comments
        for media_id in [one for one, item in media.items() if item.author_id not in of_users]:
            del media[media_id]
        for comment_id in [one for one, said in comments.items() if said.media_id not in of_media]:
            del comments[comment_id]
        oracle.uploads = {key: one for key, one in oracle.uploads.items() if one in media}
        oracle.remarks = {key: one for key, one in oracle.remarks.items() if one in comments}
        edges = (oracle.following, oracle.likers, oracle.saved)
        held = sum(sum(map(len, sets.values())) for sets in edges)
        return held + len(media) + len(comments)


def _keep(sets: dict[int, set[int]], keys: Container[object], others: Container[object]) -> None:
    """What is held of a key, and of others what leads to one."""
    for key in [one for one in sets if one not in keys]:
        sets[key] = {other for other in sets[key] if other in others}
        if not sets[key]:
            del sets[key]
