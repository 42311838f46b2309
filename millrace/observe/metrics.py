"""Every metric, on one screen: its name, its unit (the end of the name), what it means.

Labels are few and bounded: RPC methods, codes, views, topics. Never ids, names or messages.
"""

from prometheus_client import Counter, Gauge, Histogram

_FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# gRPC
RPC_SECONDS = Histogram(
    "millrace_rpc_seconds",
    "From the request (or the stream's start) to the status",
    ["method"],
    buckets=_FAST_S,
)
RPCS = Counter("millrace_rpcs_total", "RPCs by the status that they ended with", ["method", "code"])
RPCS_RUNNING = Gauge("millrace_rpcs_running", "RPCs that this process works on now")

ADMISSION_LIMIT = Gauge(
    "millrace_admission_limit_calls", "Unary RPCs at once that this process admits now"
)

RATE_REFUSALS = Counter(
    "millrace_rate_refusals_total", "Calls refused because somebody called too often", ["rate"]
)

# Sessions and passwords
PASSWORD_SECONDS = Histogram(
    "millrace_password_seconds",
    "One argon2id computation, waiting for its turn included",
    buckets=_FAST_S,
)
SESSION_READS = Histogram(
    "millrace_session_read_sessions",
    "Sessions looked up by one read of the vault",
    buckets=(1, 2, 5, 10, 20, 50, 100),
)

# Waiting for views
POSITION_POLLS = Counter(
    "millrace_position_polls_total", "Reads of a view's positions because somebody waits", ["view"]
)
VIEW_WAITS = Counter(
    "millrace_view_waits_total", "Waits for a view to cover a position, by their end", ["outcome"]
)

# Cache
CACHE_CALLS = Counter(
    "millrace_cache_calls_total",
    "Calls of memcached: answered, late, disconnected, garbled, cancelled, passed over",
    ["outcome"],
)

# Projection
VIEW_EVENTS = Counter("millrace_view_events_total", "Events that a view has taken", ["view"])
VIEW_LAG = Gauge("millrace_view_lag_events", "Events ahead of a view in this process", ["view"])
VIEW_DEAD = Counter(
    "millrace_view_dead_letters_total", "Events that a view could not take", ["view"]
)

# Registrations
REGISTRATIONS_COMPLETED = Counter(
    "millrace_registrations_completed_total",
    "Claims whose registration the completing task had to finish",
)
RENAMES_COMPLETED = Counter(
    "millrace_renames_completed_total",
    "Claims whose rename the completing task had to finish",
)

# Sweeper
SWEEPS = Counter("millrace_sweeps_total", "Looks at all objects, by their end", ["outcome"])
OBJECTS_SWEPT = Counter("millrace_objects_swept_total", "Objects deleted: no media item named them")

# Feed fan-out
FEED_ROWS_PLANNED = Counter(
    "millrace_feed_rows_planned_total", "Rows written into chunks", ["topic"]
)
FEED_ROWS_DELIVERED = Counter(
    "millrace_feed_rows_delivered_total", "Rows that the feed store has acknowledged", ["topic"]
)
FEED_CHUNKS_UNREADABLE = Counter(
    "millrace_feed_chunks_unreadable_total", "Chunks put aside as dead letters", ["topic"]
)
FEED_PLAN_LAG = Gauge(
    "millrace_feed_plan_lag_events", "Events of topic media that this planner has not planned"
)
FEED_CHUNK_LAG = Gauge(
    "millrace_feed_chunk_lag_records", "Chunks that this process has not delivered", ["topic"]
)
