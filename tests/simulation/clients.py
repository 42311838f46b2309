"""What clients do, as the events that the services write for it.

Services look at the views as they are served at this moment and append one event (a registration
several). Where a service waits for the view, the rest is an action of its own, so that it may
never come: it died.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from millrace.auth import sealing
from millrace.ids import IdMint
from millrace.log.partitioner import key_of, partition_of_owner
from millrace.log.port import Appended
from millrace.views import registration, renaming, users
from millrace.views.registration import Claim
from millrace.views.renaming import Step
from millrace.views.users import Cited
from social.log.v1.comments_pb2 import CommentAdded, CommentDeleted, CommentsEvent, CommentText
from social.log.v1.follows_pb2 import FollowsEvent, UserFollowed, UserUnfollowed
from social.log.v1.likes_pb2 import LikesEvent, MediaLiked, MediaUnliked
from social.log.v1.media_pb2 import (
    CaptionEdited,
    CaptionText,
    MediaDeleted,
    MediaEvent,
    MediaUploaded,
)
from social.log.v1.saves_pb2 import MediaSaved, MediaUnsaved, SavesEvent
from social.log.v1.sealed_pb2 import Sealed
from social.log.v1.users_pb2 import (
    ProfileText,
    ProfileUpdated,
    RegistrationText,
    UserDeactivated,
    UserReactivated,
    UsersEvent,
)

USERS_MAX = 6
SERVICES = 2


def data_key(user_id: int) -> bytes:
    """Of this user in every simulation."""
    return sha256(b"data key %d" % user_id).digest()


def name_key(name: int) -> bytes:
    return sha256(b"name %d" % name).digest()


@dataclass(slots=True)
class _Claimed:
    """The last claim of a user, and what its service still holds of it. `frees`: of a rename."""

    name: int
    number: int
    frees: Cited | None


@dataclass(slots=True)
class Clients:
    """`world`: its log, views, clock and loop. Actors are numbered from 1, items by age."""

    world: Any
    users: int = 0
    media: list[tuple[int, int]] = field(default_factory=list)
    comments: list[tuple[int, int, int]] = field(default_factory=list)
    last_minted: dict[int, int] = field(default_factory=dict)
    _claimed: dict[int, _Claimed] = field(default_factory=dict)
    _mints: list[IdMint] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._mints = [IdMint(self.world.clocks[number]) for number in range(SERVICES)]

    def follow(self, follower: int, followee: int) -> Appended | None:
        if follower == followee:
            return None
        event = UserFollowed(follower_id=follower, followee_id=followee, at_ms=self._now_ms())
        return self._append("follows", follower, FollowsEvent(followed=event))

    def unfollow(self, follower: int, followee: int) -> Appended | None:
        if follower == followee:
            return None
        event = UserUnfollowed(follower_id=follower, followee_id=followee, at_ms=self._now_ms())
        return self._append("follows", follower, FollowsEvent(unfollowed=event))

    def like(self, user: int, nth: int) -> Appended | None:
        if (item := self._nth(self.media, nth)) is None:
            return None
        event = MediaLiked(user_id=user, media_id=item[0], at_ms=self._now_ms())
        return self._append("likes", user, LikesEvent(liked=event))

    def unlike(self, user: int, nth: int) -> Appended | None:
        if (item := self._nth(self.media, nth)) is None:
            return None
        event = MediaUnliked(user_id=user, media_id=item[0], at_ms=self._now_ms())
        return self._append("likes", user, LikesEvent(unliked=event))

    def save(self, user: int, nth: int) -> Appended | None:
        if (item := self._nth(self.media, nth)) is None:
            return None
        event = MediaSaved(user_id=user, media_id=item[0], at_ms=self._now_ms())
        return self._append("saves", user, SavesEvent(saved=event))

    def unsave(self, user: int, nth: int) -> Appended | None:
        if (item := self._nth(self.media, nth)) is None:
            return None
        event = MediaUnsaved(user_id=user, media_id=item[0], at_ms=self._now_ms())
        return self._append("saves", user, SavesEvent(unsaved=event))

    def post(self, author: int, service: int, request: int) -> Appended:
        """A few requests are the same, as of a client that tries again."""
        media_id = self._mint(service, author)
        event = MediaUploaded(
            media_id=media_id,
            author_id=author,
            at_ms=self._now_ms(),
            request_id=b"request %08d" % request,
            body_sha256=b"body",
            size_bytes=media_id % 1000,
            content_sha256=b"content of %d" % media_id,
        )
        self._seal(event.sealed, author, CaptionText(caption=f"by {author}"))
        self.media.append((media_id, author))
        return self._append("media", author, MediaEvent(uploaded=event))

    def delete(self, nth: int) -> Appended | None:
        if (item := self._nth(self.media, nth)) is None:
            return None
        media_id, author = item
        event = MediaDeleted(media_id=media_id, author_id=author, at_ms=self._now_ms())
        return self._append("media", author, MediaEvent(deleted=event))

    def caption(self, nth: int, text: str) -> Appended | None:
        if (item := self._nth(self.media, nth)) is None:
            return None
        media_id, author = item
        event = CaptionEdited(media_id=media_id, author_id=author, at_ms=self._now_ms())
        self._seal(event.sealed, author, CaptionText(caption=text))
        return self._append("media", author, MediaEvent(caption_edited=event))

    def comment(self, author: int, service: int, nth: int, request: int) -> Appended | None:
        if (item := self._nth(self.media, nth)) is None:
            return None
        comment_id = self._mint(service, author)
        event = CommentAdded(
            comment_id=comment_id,
            media_id=item[0],
            author_id=author,
            at_ms=self._now_ms(),
            request_id=b"request %08d" % request,
            body_sha256=b"body",
            mentioned_ids=[item[1], 0],
        )
        self._seal(event.sealed, author, CommentText(text=f"{author} says {request}"))
        self.comments.append((comment_id, item[0], author))
        return self._append("comments", author, CommentsEvent(added=event))

    def uncomment(self, nth: int) -> Appended | None:
        if (said := self._nth(self.comments, nth)) is None:
            return None
        comment_id, media_id, author = said
        event = CommentDeleted(
            comment_id=comment_id, media_id=media_id, author_id=author, deleted_by=author
        )
        return self._append("comments", author, CommentsEvent(deleted=event))

    def register(self, name: int) -> Appended | None:
        """A new user: secrets, then the claim. `go_on` is the rest."""
        if self.users >= USERS_MAX:
            return None
        self.users += 1
        user = self.users
        claim = Claim(
            user,
            name_key(name),
            RegistrationText(handle=f"name{name}", display_name=f"user {user}"),
            data_key(user),
            b"request of %05d" % user,
            b"m" * 32,
            self._now_ms(),
        )
        master, partitions = self.world.keys.master, self.world.log.partitions
        for secret in registration.identity(master, partitions, claim, "a hash"):
            self.world.append("vault", secret.key, secret.value, secret.partition)
        event = registration.name_claimed(claim)
        appended = self.world.append("names", claim.name_key, event.SerializeToString())
        self._claimed[user] = _Claimed(name, appended.number, None)
        return appended  # type: ignore[no-any-return]

    def rename(self, user: int, name: int) -> Appended | None:
        row = self._row(user)
        if row is None or row.cites.name_key == name_key(name):
            return None
        event = renaming.name_claimed(
            user,
            name_key(name),
            row.cites,
            renaming.seal_handle(data_key(user), user, f"name{name}"),
            request_id=b"a new name again",
            body_mac=b"m" * 32,
            at_ms=self._now_ms(),
        )
        appended = self.world.append("names", name_key(name), event.SerializeToString())
        self._claimed[user] = _Claimed(name, appended.number, row.cites)
        return appended  # type: ignore[no-any-return]

    def go_on(self, user: int) -> Appended | None:
        """The next step of the user's registration or rename, once the view has the claim."""
        claimed = self._claimed.get(user)
        if claimed is None:
            return None
        key = name_key(claimed.name)
        holder = self.world.loop.finish(
            self.world.here, users.by_name(self.world.views, [key])
        ).get(key)
        if holder is None or (holder.user_id, holder.claim_number) != (user, claimed.number):
            return None
        row = self._row(user)
        if claimed.frees is None:
            if row is not None:
                return None
            event = self._registered(user, key, claimed)
            return self._append("users", user, event)
        return self._renamed(user, row, Cited(key, claimed.number), claimed)

    def profile(self, user: int, bio: int) -> Appended | None:
        if self._row(user) is None:
            return None
        event = ProfileUpdated(user_id=user, at_ms=self._now_ms())
        self._seal(event.sealed, user, ProfileText(display_name=f"user {user}", bio=f"bio {bio}"))
        return self._append("users", user, UsersEvent(profile_updated=event))

    def deactivate(self, user: int) -> Appended:
        event = UserDeactivated(user_id=user, at_ms=self._now_ms())
        return self._append("users", user, UsersEvent(deactivated=event))

    def reactivate(self, user: int) -> Appended:
        event = UserReactivated(user_id=user, at_ms=self._now_ms())
        return self._append("users", user, UsersEvent(reactivated=event))

    def _registered(self, user: int, key: bytes, claimed: _Claimed) -> UsersEvent:
        text = RegistrationText(handle=f"name{claimed.name}", display_name=f"user {user}")
        return registration.user_registered(
            user, key, claimed.number, text, data_key(user), self._now_ms()
        )

    def _renamed(self, user: int, row: Any, claim: Cited, claimed: _Claimed) -> Appended:
        assert claimed.frees is not None
        match renaming.next_step(row, claim, claimed.frees):
            case Step.CHANGE:
                sealed = renaming.seal_handle(data_key(user), user, f"name{claimed.name}")
                event = renaming.handle_changed(user, claim, claimed.frees, sealed, self._now_ms())
                return self._append("users", user, event)
            case Step.FREE_OLD:
                freed = claimed.frees
            case Step.FREE_DEAD:
                freed = claim
        ended = renaming.name_freed(user, freed, self._now_ms())
        return self.world.append(  # type: ignore[no-any-return]
            "names", freed.name_key, ended.SerializeToString()
        )

    def _append(self, topic: str, owner: int, event: Any) -> Appended:
        return self.world.append(  # type: ignore[no-any-return]
            topic, key_of(owner), event.SerializeToString()
        )

    def _row(self, user: int) -> Any:
        found = users.by_id_deactivated_too(self.world.views, [user])
        return self.world.loop.finish(self.world.here, found).get(user)

    def _seal(self, sealed: Sealed, user: int, text: Any) -> None:
        """Only who is there has a key. Others act all the same: the views do not mind."""
        if self._row(user) is not None:
            sealed.CopyFrom(sealing.seal_text(data_key(user), user, text))

    def _mint(self, service: int, owner: int) -> int:
        partition = partition_of_owner(owner, self.world.log.partitions)
        minted = self._mints[service % SERVICES].mint(partition)
        if minted >> 22 < self.last_minted.get(service, 0) >> 22:
            self.world.wrong(f"service {service} minted {minted} after a later id")
        self.last_minted[service] = minted
        return minted

    def _now_ms(self) -> int:
        return int(self.world.clocks[0].now_ms())

    def _nth(self, items: list[Any], nth: int) -> Any:
        """The newest is number 0."""
        return items[-1 - nth % len(items)] if items else None
