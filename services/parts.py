"""What handlers need, built once at the start of a process and shared by all of them."""

from dataclasses import dataclass

from millrace.auth.access_token import AccessTokens
from millrace.auth.keys import Keys
from millrace.clock import Clock
from millrace.ids import IdMint
from millrace.log.port import Log
from millrace.relations.page_token import PageTokens
from millrace.settings import Settings
from millrace.stores.feed_port import FeedStore
from millrace.stores.port import ViewStore
from millrace.views.data_keys import DataKeys
from services.freshness import Positions


@dataclass(frozen=True, slots=True)
class Parts:
    """`positions` knows how far views are; `tokens` issues and verifies access tokens."""

    settings: Settings
    clock: Clock
    keys: Keys
    log: Log
    log_id: int
    views: ViewStore
    feeds: FeedStore
    ids: IdMint
    tokens: AccessTokens
    page_tokens: PageTokens
    data_keys: DataKeys
    positions: Positions
