"""Which "@handle"s a text mentions, and whom they mean.

Ids are resolved when a text is written and kept beside it in its event, by the place of their
handle; handles are found again in the text when it is read. So `handles` stays as it is for ever.
"""

import re
from collections.abc import Container, Sequence

from millrace.auth import names
from millrace.views import users
from services.parts import Parts
from social.v1.comments_pb2 import Mention

NOBODY = 0
# Neither a letter nor a digit, "_", "@" or "/" before it, so that a@bob.com and addresses of pages
# mention nobody; and no letter of another alphabet, nor another "@", cuts a handle off.
_WRITTEN = re.compile(r"(?<![\w@/])@([A-Za-z0-9_.]++)(?![\w@])")
_LENGTHS = range(3, 31)


def handles(text: str) -> list[str]:
    """Different handles in the order of their first places, as written there, without "@".

    Dots at the end belong to the sentence. Two that differ in case only are one handle.
    """
    found: dict[str, str] = {}
    for written in _WRITTEN.findall(text):
        handle = written.rstrip(".")
        if len(handle) in _LENGTHS:
            found.setdefault(names.normalise(handle), handle)
    return list(found.values())


async def resolve(parts: Parts, text: str) -> list[int]:
    """Whom the text's handles mean now: an id each, 0 for nobody. More than
    `comment_mentions_max` handles stay text.
    """
    written = handles(text)[: parts.settings.comment_mentions_max]
    keys = [names.name_key(parts.keys, handle) for handle in written]
    rows = await users.by_handle(parts.views, keys)
    return [rows[key].user_id if key in rows else NOBODY for key in keys]


def standing(text: str, ids: Sequence[int], stand: Container[int]) -> list[Mention]:
    """The mentions of those who stand. `ids`: as `resolve` found them."""
    return [
        Mention(handle=handle, user_id=user_id)
        for handle, user_id in zip(handles(text), ids, strict=False)
        if user_id in stand
    ]
