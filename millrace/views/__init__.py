"""The views, one file a noun: what it reads, what it keeps, its pure `project`, its reads."""

from millrace.relations import View
from millrace.views import comments, follows, likes, media, saves, users, vault

VIEWS: tuple[View, ...] = (
    users.VIEW,
    vault.VIEW,
    media.VIEW,
    follows.VIEW,
    likes.VIEW,
    comments.VIEW,
    saves.VIEW,
)
VIEW_BY_NAME: dict[str, View] = {view.name: view for view in VIEWS}
