"""Random requests of every RPC: few users, items and names, so that they clash.

A method for each RPC, in snake case; a list of messages for a client's stream. What is drawn
depends on the seed and on what was answered so far (the model), never on ids: those are the
server's.
"""

import uuid
from random import Random
from typing import Any

from google.protobuf.message import Message

from millrace.oracle import Answers
from social.v1 import (
    comments_pb2,
    feed_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    saves_pb2,
    users_pb2,
)
from tests.random_fields import PASSWORDS, TEXTS, UPLOADS

USERS_MAX = 14
MEDIA_STANDING_MAX = 40
NOBODY = 1 << 40
RARELY, SOMETIMES = 0.03, 0.15


class Requests:
    """A lane has its own users, and names that nobody else takes."""

    def __init__(self, rng: Random, answers: Answers, *, lane: int) -> None:
        self._rng = rng
        self._answers = answers
        self._names = [f"l{lane}.{letter}{word}" for letter in "abcdef" for word in ("na", "en")]
        self._names += [f"l{lane}_{number}" for number in range(USERS_MAX)]
        self._made: dict[str, list[Any]] = {}

    def page_size(self) -> int:
        return self._rng.choice((0, 1, 1, 2, 3, 5, 100))

    # what they are about

    def users(self) -> list[int]:
        """In the order of their registrations."""
        return list(self._answers.state.users)

    def _user(self) -> int:
        users = self.users()
        if not users or self._rng.random() < RARELY:
            return NOBODY + self._rng.randrange(9)
        return self._rng.choice(users)

    def _handle(self) -> str:
        name = self._rng.choice(self._names)
        return "".join(self._rng.choice((one, one.upper())) for one in name)

    def _taken_handle(self) -> str:
        users = self.users()
        handle = self._answers.state.handle(self._rng.choice(users)) if users else ""
        return handle if handle and self._rng.random() < 0.8 else self._handle()

    def _media(self) -> int:
        media = self._answers.state.media
        standing = [one for one, item in media.items() if not item.deleted]
        chance = self._rng.random()
        if not media or chance < RARELY:
            return NOBODY + self._rng.randrange(9)
        if standing and chance < 1 - SOMETIMES / 2:
            return self._rng.choice(standing[-MEDIA_STANDING_MAX:])
        return self._rng.choice(list(media))

    def _page(self, kind: str, owner: str = "", owner_id: int = 0) -> dict[str, Any]:
        """Mostly the list's beginning; else a token that was given out, or none of ours."""
        page: dict[str, Any] = {"page_size": self.page_size()}
        if owner:
            page[owner] = owner_id
        places, chance = self._answers.pages.places, self._rng.random()
        given = list(places)[-60:]
        if chance < RARELY / 2:
            page["page_token"] = "AAAA"
        elif chance < RARELY and given:
            page["page_token"] = self._rng.choice(given)
        elif chance < 0.4 and (same := [one for one in given if places[one].kind == kind]):
            page["page_token"] = token = self._rng.choice(same)
            if owner and chance > 2 * RARELY:
                page[owner] = places[token].owner_id
        return page

    def _request_id(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _again(self, kind: str) -> Any:
        """A request that was made before, now and then."""
        made = self._made.setdefault(kind, [])
        return self._rng.choice(made[-8:]) if made and self._rng.random() < SOMETIMES else None

    def _remember(self, kind: str, made: Any) -> Any:
        self._made.setdefault(kind, []).append(made)
        return made

    # users

    def register(self) -> Message:
        if made := self._again("register"):
            request = users_pb2.RegisterRequest()
            request.CopyFrom(made)
            if self._rng.random() < 0.4:
                request.display_name += "?"
            return request
        full = len(self.users()) >= USERS_MAX
        request = users_pb2.RegisterRequest(
            request_id=self._request_id(),
            handle=self._taken_handle() if full else self._handle(),
            password=PASSWORDS[0],
            display_name=self._rng.choice(TEXTS),
        )
        if full and request.handle.lower().encode() not in self._answers.state.names:
            return self.register()
        return self._remember("register", request)  # type: ignore[no-any-return]

    def log_in(self) -> Message:
        users = self.users()
        if not users or self._rng.random() < SOMETIMES:
            return users_pb2.LogInRequest(
                handle=self._handle(), password=self._rng.choice(PASSWORDS)
            )
        state = self._answers.state
        hidden = [user for user in users if not state.stands(user)]
        user = self._rng.choice(hidden if hidden and self._rng.random() < 0.3 else users)
        handle = state.handle(user)
        right = self._answers.accounts.passwords[user]
        wrong = self._rng.random() < SOMETIMES
        return users_pb2.LogInRequest(
            handle=handle.swapcase() if self._rng.random() < 0.5 else handle,
            password=f"{right}!" if wrong else right,
        )

    def refresh_token(self) -> Message:
        sessions = list(dict.fromkeys(self._answers.accounts.sessions.values()))
        shown = "none of ours"
        if sessions and self._rng.random() > RARELY:
            # Some again and again, so that a token may be shown too late.
            often = sorted(sessions[-30:], key=lambda session: len(session.refresh_tokens))[-6:]
            tokens = self._rng.choice(often + sessions[-6:]).refresh_tokens
            which = self._rng.choices((-1, -2, 0), (75, 15, 10))[0]
            shown = tokens[which] if len(tokens) > 1 else tokens[0]
        return users_pb2.RefreshTokenRequest(refresh_token=shown)

    def log_out(self) -> Message:
        everywhere = self._rng.random() < 2 * SOMETIMES
        return users_pb2.LogOutRequest(request_id=self._request_id(), all_sessions=everywhere)

    def change_password(self) -> Message:
        old, new = self._rng.choice(PASSWORDS), self._rng.choice(PASSWORDS)
        return users_pb2.ChangePasswordRequest(
            request_id=self._request_id(), old_password=old, new_password=new
        )

    def get_users(self) -> Message:
        count = self._rng.randrange(1, 8)
        if self._rng.random() < 0.4:
            handles = [self._taken_handle() for _ in range(count)]
            return users_pb2.GetUsersRequest(handles=handles)
        return users_pb2.GetUsersRequest(user_ids=[self._user() for _ in range(count)])

    def update_profile(self) -> Message:
        return users_pb2.UpdateProfileRequest(
            request_id=self._request_id(),
            display_name=self._rng.choice(TEXTS),
            bio=self._rng.choice(TEXTS),
            private=self._rng.random() < RARELY,
        )

    def change_handle(self) -> Message:
        if made := self._again("change_handle"):
            request = users_pb2.ChangeHandleRequest()
            request.CopyFrom(made)
            if self._rng.random() < 0.5:
                request.handle = request.handle.swapcase()
            return request
        handle = self._taken_handle() if self._rng.random() < 0.4 else self._handle()
        request = users_pb2.ChangeHandleRequest(request_id=self._request_id(), handle=handle)
        return self._remember("change_handle", request)  # type: ignore[no-any-return]

    def deactivate_user(self) -> Message:
        return users_pb2.DeactivateUserRequest(request_id=self._request_id())

    def reactivate_user(self) -> Message:
        return users_pb2.ReactivateUserRequest(request_id=self._request_id())

    # media

    def upload_media(self) -> list[Any]:
        again = self._again("upload")
        caption, data, request_id = again or (
            self._rng.choice(TEXTS), self._rng.choice(UPLOADS), self._request_id(),
        )  # fmt: skip
        self._remember("upload", (caption, data, request_id))
        if again and self._rng.random() < 0.4:
            caption += "?"
        size = self._rng.choice((0, len(data), len(data), len(data) + (self._rng.random() < 0.2)))
        header = media_pb2.UploadMediaHeader(
            request_id=request_id, caption=caption, size_bytes=size
        )
        half = len(data) // 2
        chunks = [data] if self._rng.random() < 0.5 else [data[:half], data[half:]]
        messages = [media_pb2.UploadMediaRequest(header=header)]
        messages += [media_pb2.UploadMediaRequest(chunk=chunk) for chunk in chunks if chunk]
        if self._rng.random() < RARELY:
            messages = self._rng.choice((messages[1:] or messages, [*messages, messages[0]]))
        return messages

    def get_media(self) -> Message:
        ids = [self._media() for _ in range(self._rng.randrange(1, 8))]
        return media_pb2.GetMediaRequest(media_ids=ids)

    def list_user_media(self) -> Message:
        page = self._page("user_media", "user_id", self._user())
        return media_pb2.ListUserMediaRequest(**page)

    def download_media(self) -> Message:
        rendition = media_pb2.Rendition.ValueType(self._rng.choice((0, 0, 0, 1, 1, 2)))
        return media_pb2.DownloadMediaRequest(media_id=self._media(), rendition=rendition)

    def edit_caption(self) -> Message:
        return media_pb2.EditCaptionRequest(
            request_id=self._request_id(),
            media_id=self._media(),
            caption=self._rng.choice(TEXTS),
        )

    def delete_media(self) -> Message:
        return media_pb2.DeleteMediaRequest(request_id=self._request_id(), media_id=self._media())

    # follows

    def follow(self) -> Message:
        return follows_pb2.FollowRequest(request_id=self._request_id(), user_id=self._user())

    def unfollow(self) -> Message:
        return follows_pb2.UnfollowRequest(request_id=self._request_id(), user_id=self._user())

    def list_followers(self) -> Message:
        page = self._page("followers", "user_id", self._user())
        return follows_pb2.ListFollowersRequest(**page)

    def list_following(self) -> Message:
        page = self._page("following", "user_id", self._user())
        return follows_pb2.ListFollowingRequest(**page)

    # likes

    def like_media(self) -> Message:
        return likes_pb2.LikeMediaRequest(request_id=self._request_id(), media_id=self._media())

    def unlike_media(self) -> Message:
        return likes_pb2.UnlikeMediaRequest(request_id=self._request_id(), media_id=self._media())

    def list_likers(self) -> Message:
        page = self._page("likers", "media_id", self._media())
        return likes_pb2.ListLikersRequest(**page)

    def record_likes(self) -> list[Any]:
        rng, request_id = self._rng, self._request_id()
        first = rng.choice((1, 1, 7))
        # A stream that is refused must have written nothing before it is: all are unknown.
        wrong = rng.random() < SOMETIMES
        likes = [
            likes_pb2.RecordedLike(
                sequence=number,
                media_id=NOBODY if wrong else self._media(),
                unlike=rng.random() < 0.3,
            )
            for number in range(first, first + rng.randrange(1, 12))
        ]
        cut = rng.randrange(len(likes))
        parts = [part for part in (likes[:cut], likes[cut:]) if part]
        sent = [likes_pb2.RecordLikesRequest(request_id=request_id, likes=part) for part in parts]
        if wrong and rng.random() < 0.3:
            sent[-1].request_id = self._request_id()
        elif wrong and len(likes) > 1:
            sent[-1].likes[-1].sequence += 1
        return sent

    # saves

    def save_media(self) -> Message:
        return saves_pb2.SaveMediaRequest(request_id=self._request_id(), media_id=self._media())

    def unsave_media(self) -> Message:
        return saves_pb2.UnsaveMediaRequest(request_id=self._request_id(), media_id=self._media())

    def list_saved(self) -> Message:
        return saves_pb2.ListSavedRequest(**self._page("saved"))

    # comments and feed

    def _comment(self) -> tuple[int, int]:
        """(media item, comment), mostly of each other."""
        comments = self._answers.state.comments
        standing = [one for one, comment in comments.items() if not comment.deleted]
        if not comments or self._rng.random() < RARELY:
            return self._media(), NOBODY
        fresh = standing and self._rng.random() < 1 - SOMETIMES
        comment_id = self._rng.choice(standing[-12:] if fresh else list(comments))
        apart = self._rng.random() < RARELY
        return self._media() if apart else comments[comment_id].media_id, comment_id

    def add_comment(self) -> Message:
        if made := self._again("comment"):
            request = comments_pb2.AddCommentRequest()
            request.CopyFrom(made)
            if self._rng.random() < 0.4:
                request.text += "?"
            return request
        words = [f"@{self._taken_handle()}" for _ in range(self._rng.choice((0, 0, 1, 2, 3)))]
        request = comments_pb2.AddCommentRequest(
            request_id=self._request_id(),
            media_id=self._media(),
            text=" ".join([*words, self._rng.choice(TEXTS) or "!"]),
        )
        return self._remember("comment", request)  # type: ignore[no-any-return]

    def delete_comment(self) -> Message:
        media_id, comment_id = self._comment()
        return comments_pb2.DeleteCommentRequest(
            request_id=self._request_id(), media_id=media_id, comment_id=comment_id
        )

    def list_comments(self) -> Message:
        page = self._page("comments", "media_id", self._media())
        return comments_pb2.ListCommentsRequest(**page)

    def get_feed(self) -> Message:
        return feed_pb2.GetFeedRequest(require_complete=True, **self._page("feed"))
