"""Every service of the contract and its servicer: what a server process serves.

A service without a servicer yet answers UNIMPLEMENTED to everything.
"""

from services.comments import CommentsService
from services.feed import FeedService
from services.follows import FollowsService
from services.likes import LikesService
from services.media import MediaService
from services.parts import Parts
from services.rpc import Service
from services.saves import SavesService
from services.users import UsersService
from social.v1 import (
    activity_pb2,
    comments_pb2,
    feed_pb2,
    follows_pb2,
    likes_pb2,
    media_pb2,
    saves_pb2,
    users_pb2,
)

_PROTOS = (
    users_pb2,
    media_pb2,
    follows_pb2,
    likes_pb2,
    comments_pb2,
    saves_pb2,
    feed_pb2,
    activity_pb2,
)


def services_of(parts: Parts) -> list[Service]:
    upload_s = float(parts.settings.upload_deadline_s)
    deadlines: dict[str, dict[str, float | None]] = {
        "MediaService": {"UploadMedia": upload_s, "DownloadMedia": upload_s},
        # It ends with its access token, at the latest so.
        "LikesService": {"RecordLikes": float(parts.settings.access_token_ttl_s)},
    }
    servicers: dict[str, object] = {
        "UsersService": UsersService(parts),
        "FollowsService": FollowsService(parts),
        "LikesService": LikesService(parts),
        "MediaService": MediaService(parts),
        "CommentsService": CommentsService(parts),
        "SavesService": SavesService(parts),
        "FeedService": FeedService(parts),
    }
    return [
        Service(descriptor, servicers.get(descriptor.name), deadlines.get(descriptor.name, {}))
        for protos in _PROTOS
        for descriptor in protos.DESCRIPTOR.services_by_name.values()
    ]
