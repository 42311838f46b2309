"""What handlers need, built once at the start of a process and shared by all of them."""

from dataclasses import dataclass
from functools import partial

from millrace.auth import sealing
from millrace.auth.access_token import AccessTokens
from millrace.auth.keys import Keys, load_keys
from millrace.auth.passwords import Passwords
from millrace.clock import Clock
from millrace.content.cleaner import Cleaner
from millrace.ids import IdMint
from millrace.log.control import Control
from millrace.log.port import Log
from millrace.log.position_token import FutureCheck
from millrace.log.user_ids import UserIds
from millrace.observe import metrics
from millrace.policy import MediaFacts
from millrace.relations.entity import READ_KEYS_MAX
from millrace.relations.page_token import PageTokens
from millrace.settings import Settings
from millrace.stores.cache_port import Cache
from millrace.stores.feed_port import FeedStore
from millrace.stores.objects import ObjectStore
from millrace.stores.port import ViewStore
from millrace.views.data_keys import DataKeys
from millrace.views.hydration import media_facts
from services.batching import Batched
from services.freshness import Positions
from services.log_ends import LogEnds
from services.rates import Rates


@dataclass(frozen=True, slots=True)
class Parts:
    """`tokens` issues and verifies access tokens; `positions` knows how far views are, `future`
    what is beyond the log's end, `log_ends` where that is; `control` knows the log's identity;
    `media_facts` reads what the policy asks about media, for many calls at once.
    """

    settings: Settings
    clock: Clock
    keys: Keys
    log: Log
    control: Control
    views: ViewStore
    feeds: FeedStore
    ids: IdMint
    user_ids: UserIds
    tokens: AccessTokens
    passwords: Passwords
    page_tokens: PageTokens
    data_keys: DataKeys
    positions: Positions
    future: FutureCheck
    log_ends: LogEnds
    objects: ObjectStore
    cleaner: Cleaner
    media_facts: Batched[int, MediaFacts]
    rates: Rates


def assemble(
    settings: Settings,
    clock: Clock,
    keys: Keys,
    log: Log,
    control: Control,
    views: ViewStore,
    feeds: FeedStore,
    cache: Cache,
) -> Parts:
    """The parts over these stores. `control` has been read; whoever opened them closes them."""
    return Parts(
        settings=settings,
        clock=clock,
        keys=keys,
        log=log,
        control=control,
        views=views,
        feeds=feeds,
        ids=IdMint(clock),
        user_ids=UserIds(log, control),
        tokens=AccessTokens(settings, clock, keys, partial(load_keys, settings.keys_dir)),
        passwords=Passwords(settings, metrics.PASSWORD_SECONDS),
        page_tokens=PageTokens(control.identity.key("page token")),
        data_keys=DataKeys(
            views,
            log,
            clock,
            partial(sealing.open_secret, keys.master),
            cached_max=settings.data_keys_cached_max,
            wait_s=settings.apply_wait_s,
        ),
        positions=Positions(views, clock, settings),
        future=FutureCheck(log),
        log_ends=LogEnds(log, clock, settings.log_ends_interval_ms),
        objects=ObjectStore.open(settings),
        cleaner=Cleaner(settings),
        media_facts=Batched(
            partial(media_facts, views),
            keys_max=READ_KEYS_MAX,
            pause_s=settings.read_pause_ms / 1000,
        ),
        rates=Rates(settings, clock, cache, control.identity.key("rates")),
    )
