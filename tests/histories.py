"""Random histories of the product as records of the log, and the dict model that judges them.

A history is a list of operations. `records` turns it into the log's records as the services
write them; `Model` says, independently of `project`, what the views must hold.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import strategies as st

from millrace.log.partitioner import key_of, partition_of
from millrace.log.port import Record
from social.log.v1.comments_pb2 import (
    CommentAdded,
    CommentDeleted,
    CommentsEvent,
    CommentText,
)
from social.log.v1.follows_pb2 import FollowsEvent, UserFollowed, UserUnfollowed
from social.log.v1.likes_pb2 import LikesEvent, MediaLiked, MediaUnliked
from social.log.v1.media_pb2 import (
    CaptionEdited,
    CaptionText,
    MediaDeleted,
    MediaEvent,
    MediaUploaded,
)
from social.log.v1.names_pb2 import NameClaimed, NameFreed, NamesEvent
from social.log.v1.saves_pb2 import MediaSaved, MediaUnsaved, SavesEvent
from social.log.v1.sealed_pb2 import Sealed
from social.log.v1.users_pb2 import (
    HandleChanged,
    HandleText,
    ProfileText,
    ProfileUpdated,
    RegistrationText,
    UserDeactivated,
    UserReactivated,
    UserRegistered,
    UsersEvent,
)

PARTITIONS = 3
USERS = range(1, 7)
MEDIA = range(101, 107)
COMMENTS = range(201, 206)
AT_MS = 1_750_000_000_000

users = st.sampled_from(USERS)
media = st.sampled_from(MEDIA)
comments = st.sampled_from(COMMENTS)
requests = st.sampled_from([b"request-%08d" % number for number in range(4)])
names = st.sampled_from([b"%032d" % number for number in range(3)])

follow = st.tuples(st.sampled_from(["follow", "unfollow"]), users, users).filter(
    lambda op: op[1] != op[2]
)
like = st.tuples(st.sampled_from(["like", "unlike"]), users, media)
save = st.tuples(st.sampled_from(["save", "unsave"]), users, media)


def _own(op: tuple) -> tuple:  # type: ignore[type-arg]
    """An id holds its author's partition, so two partitions never mint the same one."""
    kind, author, minted, *rest = op
    own = minted * PARTITIONS + partition_of(key_of(author), PARTITIONS)
    return kind, author, own, *rest


upload = st.tuples(st.just("upload"), users, media, requests).map(_own)
delete = st.tuples(st.just("delete"), users, media).map(_own)
caption = st.tuples(st.just("caption"), users, media, st.sampled_from(["", "new"])).map(_own)
# Few items, so that comments meet.
comment = st.tuples(st.just("comment"), users, comments, st.sampled_from(MEDIA[:2]), requests).map(
    _own
)
uncomment = st.tuples(st.just("uncomment"), users, comments, st.sampled_from(MEDIA[:2])).map(_own)
claim = st.tuples(st.just("claim"), names, users, requests)
# A claim is spoken of by its name and by which of the claims of that name it is.
nth = st.integers(0, 3)
free = st.tuples(st.just("free"), names, nth, users)
handle = st.tuples(st.just("handle"), users, names, nth, st.one_of(st.none(), names), nth)
away = st.tuples(st.sampled_from(["deactivate", "reactivate"]), users)
register = st.tuples(st.just("register"), users)
profile = st.tuples(st.just("profile"), users, st.text("ab", max_size=3))
operation = st.one_of(
    *(follow, follow, like, like, save, upload, delete, caption, comment, comment, uncomment),
    *(claim, register, profile, claim, free, handle, handle, away),
)
# Lists without a least size have five members or so, which seldom meet.
operations = st.one_of(
    st.lists(operation, max_size=60), st.lists(operation, min_size=25, max_size=60)
)


@dataclass
class History:
    """Records by (topic, partition), in the order of the operations."""

    partitions: dict[tuple[str, int], list[Record]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def append(self, topic: str, key: bytes, value: bytes) -> Record:
        partition = partition_of(key, PARTITIONS)
        records = self.partitions[topic, partition]
        record = Record(topic, partition, len(records) + 1, key, value)
        records.append(record)
        return record


def _plain(owner: int, text: bytes) -> Sealed:
    """Tests open a box by taking it as it is."""
    return Sealed(owner_id=owner, box=text)


def write(history: History, op: tuple) -> Record:  # type: ignore[type-arg]
    """Append one operation as the event that a service would write."""
    match op:
        case ("follow", a, b):
            event = FollowsEvent(followed=UserFollowed(follower_id=a, followee_id=b, at_ms=AT_MS))
            return history.append("follows", key_of(a), event.SerializeToString())
        case ("unfollow", a, b):
            ended = UserUnfollowed(follower_id=a, followee_id=b, at_ms=AT_MS)
            event = FollowsEvent(unfollowed=ended)
            return history.append("follows", key_of(a), event.SerializeToString())
        case ("like", a, m):
            liked = LikesEvent(liked=MediaLiked(user_id=a, media_id=m, at_ms=AT_MS))
            return history.append("likes", key_of(a), liked.SerializeToString())
        case ("unlike", a, m):
            unliked = LikesEvent(unliked=MediaUnliked(user_id=a, media_id=m, at_ms=AT_MS))
            return history.append("likes", key_of(a), unliked.SerializeToString())
        case ("save", a, m):
            saved = SavesEvent(saved=MediaSaved(user_id=a, media_id=m, at_ms=AT_MS))
            return history.append("saves", key_of(a), saved.SerializeToString())
        case ("unsave", a, m):
            unsaved = SavesEvent(unsaved=MediaUnsaved(user_id=a, media_id=m, at_ms=AT_MS))
            return history.append("saves", key_of(a), unsaved.SerializeToString())
        case ("delete", a, m):
            gone = MediaEvent(deleted=MediaDeleted(media_id=m, author_id=a, at_ms=AT_MS))
            return history.append("media", key_of(a), gone.SerializeToString())
        case ("upload", a, m, request):
            text = CaptionText(caption=f"{m} by {a}").SerializeToString()
            uploaded = MediaUploaded(
                media_id=m,
                author_id=a,
                at_ms=AT_MS,
                request_id=request,
                body_sha256=b"body",
                sealed=_plain(a, text),
            )
            value = MediaEvent(uploaded=uploaded).SerializeToString()
            return history.append("media", key_of(a), value)
        case ("caption", a, m, caption):
            edited = CaptionEdited(media_id=m, author_id=a, at_ms=AT_MS)
            if caption:
                edited.sealed.CopyFrom(_plain(a, CaptionText(caption=caption).SerializeToString()))
            value = MediaEvent(caption_edited=edited).SerializeToString()
            return history.append("media", key_of(a), value)
        case ("comment", a, c, m, request):
            text = CommentText(text=f"{c} by {a}").SerializeToString()
            added = CommentAdded(
                comment_id=c,
                media_id=m,
                author_id=a,
                at_ms=AT_MS,
                request_id=request,
                body_sha256=b"body",
                sealed=_plain(a, text),
                mentioned_ids=[a + 1, 0],
            )
            value = CommentsEvent(added=added).SerializeToString()
            return history.append("comments", key_of(a), value)
        case ("uncomment", a, c, m):
            # Whoever deletes it, the comment's author is its key.
            removed = CommentDeleted(
                comment_id=c, media_id=m, author_id=a, deleted_by=a + 1, at_ms=AT_MS
            )
            value = CommentsEvent(deleted=removed).SerializeToString()
            return history.append("comments", key_of(a), value)
    return _write_account(history, op)


def _write_account(history: History, op: tuple) -> Record:  # type: ignore[type-arg]
    """Of topics names and users."""
    match op:
        case ("claim", name, a, request):
            claimed = NameClaimed(name_key=name, user_id=a, at_ms=AT_MS, request_id=request)
            return history.append("names", name, NamesEvent(claimed=claimed).SerializeToString())
        case ("free", name, which, a):
            number = claim_number(history, name, which)
            freed = NameFreed(name_key=name, user_id=a, claim_number=number, at_ms=AT_MS)
            return history.append("names", name, NamesEvent(freed=freed).SerializeToString())
        case ("handle", a, name, which, old, old_which):
            text = HandleText(handle=f"user{a} as {int(name)}").SerializeToString()
            handle = HandleChanged(
                user_id=a,
                at_ms=AT_MS,
                name_key=name,
                claim_number=claim_number(history, name, which),
                sealed=_plain(a, text),
                # As of a registration, which cites no claim here.
                frees_name_key=old or b"",
                frees_claim_number=claim_number(history, old, old_which) if old else 0,
            )
            value = UsersEvent(handle_changed=handle).SerializeToString()
            return history.append("users", key_of(a), value)
        case ("deactivate", a):
            away = UserDeactivated(user_id=a, at_ms=AT_MS)
            value = UsersEvent(deactivated=away).SerializeToString()
            return history.append("users", key_of(a), value)
        case ("reactivate", a):
            back = UserReactivated(user_id=a, at_ms=AT_MS)
            value = UsersEvent(reactivated=back).SerializeToString()
            return history.append("users", key_of(a), value)
        case ("register", a):
            text = RegistrationText(handle=f"user{a}").SerializeToString()
            user = UserRegistered(user_id=a, at_ms=AT_MS, sealed=_plain(a, text))
            value = UsersEvent(registered=user).SerializeToString()
            return history.append("users", key_of(a), value)
        case ("profile", a, bio):
            text = ProfileText(bio=bio).SerializeToString()
            changed = ProfileUpdated(user_id=a, at_ms=AT_MS, sealed=_plain(a, text))
            value = UsersEvent(profile_updated=changed).SerializeToString()
            return history.append("users", key_of(a), value)
    raise ValueError(op)


def claim_number(history: History, name: bytes, which: int) -> int:
    """The number of this one of the claims of a name, or of none."""
    claims = [
        record.number
        for record in history.partitions["names", partition_of(name, PARTITIONS)]
        if record.key == name and NamesEvent.FromString(record.value or b"").HasField("claimed")
    ]
    return claims[-1 - which % len(claims)] if claims else 99


class Model:
    """What the views must hold, from the records of each partition alone."""

    def __init__(self) -> None:
        self.follows: dict[tuple[int, int], int] = {}
        self.likes: set[tuple[int, int]] = set()
        self.saves: set[tuple[int, int]] = set()
        self.media: dict[int, tuple[int, bool]] = {}
        self.requests: dict[tuple[int, bytes], int] = {}
        self.captions: dict[int, str] = {}
        # Comment -> media item, author, whether it stands.
        self.comments: dict[int, tuple[int, int, bool]] = {}
        self.comment_requests: dict[tuple[int, bytes], int] = {}
        # Name -> who holds it, by which claim. User -> the claim that he cites, and his handle.
        self.names: dict[bytes, tuple[int, int]] = {}
        self.handles: dict[int, tuple[bytes, int, str]] = {}
        self.bios: dict[int, str] = {}
        self.away: set[int] = set()

    def apply(self, op: tuple, record: Record) -> None:  # type: ignore[type-arg]
        match op:
            case ("follow", a, b):
                self.follows.setdefault((a, b), record.number)
            case ("unfollow", a, b):
                self.follows.pop((a, b), None)
            case ("like", a, m):
                self.likes.add((m, a))
            case ("unlike", a, m):
                self.likes.discard((m, a))
            case ("save", a, m):
                self.saves.add((a, m))
            case ("unsave", a, m):
                self.saves.discard((a, m))
            case ("upload", a, m, request):
                if (a, request) not in self.requests and m not in self.media:
                    self.requests[a, request] = m
                    self.media[m] = (a, True)
                    self.captions[m] = f"{m} by {a}"
            case ("delete", a, m):
                if self.media.get(m) == (a, True):
                    self.media[m] = (a, False)
            case ("caption", a, m, caption):
                if self.media.get(m) == (a, True):
                    self.captions[m] = caption
            case ("comment", a, c, m, request):
                if (a, request) not in self.comment_requests and c not in self.comments:
                    self.comment_requests[a, request] = c
                    self.comments[c] = (m, a, True)
            case ("uncomment", a, c, m):
                if self.comments.get(c) == (m, a, True):
                    self.comments[c] = (m, a, False)
            case ("claim", name, a, _):
                self.names.setdefault(name, (a, record.number))
            case ("free", name, _, a):
                freed = NamesEvent.FromString(record.value or b"").freed
                if self.names.get(name) == (a, freed.claim_number):
                    del self.names[name]
            case ("handle", a, name, *_):
                changed = UsersEvent.FromString(record.value or b"").handle_changed
                old = (changed.frees_name_key, changed.frees_claim_number)
                if self.handles.get(a, ())[:2] == old:
                    self.handles[a] = (name, changed.claim_number, f"user{a} as {int(name)}")
            case ("deactivate", a) if a in self.bios:
                self.away.add(a)
            case ("reactivate", a):
                self.away.discard(a)
            case ("register", a):
                self.bios.setdefault(a, "")
                self.handles.setdefault(a, (b"", 0, f"user{a}"))
            case ("profile", a, bio):
                if a in self.bios:
                    self.bios[a] = bio

    def shown(self) -> dict[int, str]:
        """Users who stand, and the handle of each: empty while the name's holder is another."""
        return {
            user: handle if self.names.get(name) == (user, number) else ""
            for user, (name, number, handle) in self.handles.items()
            if user not in self.away
        }
