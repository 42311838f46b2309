"""The one place that reads the environment: `MILLRACE_<NAME>`, or a stack file.

Every limit is here, with its unit in its name. `docs/settings.md` explains them; a test holds
the two together. A stack file (`DATA/stack.json`, written by the local stack) gives the
addresses of servers that chose their ports; the environment wins over it.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from millrace.errors import InvalidRequest


class Settings(BaseSettings):
    """Frozen. Sizes in bytes, times in the unit of the name."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", frozen=True, extra="ignore")

    # Where the servers are
    stack_file: str = ""
    kafka_bootstrap: str = "127.0.0.1:9092"
    cassandra_hosts: str = "127.0.0.1"
    cassandra_port: int = 9042
    cassandra_dc: str = "eu"
    postgres_dsn: str = "postgresql://millrace@127.0.0.1:5432/millrace"
    memcached_addresses: str = "127.0.0.1:11211"
    memcached_addresses_before: str = ""
    objects_url: str = "file://.millrace/objects"

    # Names within shared servers, so that several installations can live side by side
    topic_prefix: str = ""
    cassandra_keyspace: str = "millrace"
    cassandra_replication: int = Field(default=1, ge=1)

    # The log
    log_partitions: int = Field(default=8, ge=1, le=4096)
    log_replication: int = Field(default=1, ge=1)
    append_timeout_s: float = 5.0
    append_batch_bytes_max: int = 512 * 1024
    append_pause_ms: float = Field(default=8.0, ge=0, le=100)
    log_compression: Literal["", "lz4", "zstd"] = "lz4"
    log_request_timeout_ms: int = 10_000
    log_create_timeout_s: float = 30.0
    fetch_bytes_max: int = 4 * 1024 * 1024
    fetch_wait_ms: int = 200
    fetch_silence_max_s: float = 10.0
    group_session_ms: int = 6_000

    # Keys: a file with the master key (32 bytes, hex) and a folder with signing keys
    keys_dir: str = ".millrace/keys"
    access_token_ttl_s: int = 900
    refresh_family_ttl_s: int = 30 * 24 * 3600
    refresh_grace_s: int = 60
    verified_tokens_max: int = 10_000
    verified_token_ttl_s: int = 60
    argon2_memory_kib: int = 19_456
    argon2_time_cost: int = 2
    password_checks_parallel_max: int = 2
    password_checks_waiting_max: int = 64

    # Views
    project_batch_events: int = 4_000
    project_wait_s: float = 0.05
    project_dead_ratio_max: float = 0.1
    project_dead_ratio_events: int = 1_000
    progress_interval_s: float = 0.2
    data_keys_cached_max: int = 100_000
    registration_complete_after_s: float = 15.0
    registration_batch_claims: int = 100
    read_pause_ms: float = Field(default=5.0, ge=0, le=100)
    postgres_pool_max: int = 8
    postgres_timeout_s: float = 5.0
    postgres_retries_max: int = 5
    postgres_scan_rows: int = 1_000
    replay_batch_events: int = Field(default=50_000, ge=1)
    replay_memory_mib: int = Field(default=64, ge=1)
    replay_events_per_s_max: int = Field(default=0, ge=0)
    replay_share_max: float = Field(default=1.0, gt=0, le=1)
    replay_switch_wait_s: float = Field(default=2.0, gt=0)

    # The cache
    memcached_connections_max: int = Field(default=4, ge=1)
    memcached_timeout_ms: int = Field(default=20, ge=1)
    memcached_failures_max: int = Field(default=5, ge=1)
    memcached_pause_s: float = 1.0
    memcached_batch_max: int = Field(default=1_000, ge=1)
    memcached_value_bytes_max: int = 512 * 1024

    # The audit
    audit_keys_max: int = Field(default=20_000, ge=1)
    audit_members_max: int = Field(default=1_000_000, ge=1)
    audit_wait_s: float = 60.0
    audit_again_s: float = 5.0

    # Reads
    page_size_default: int = Field(default=30, ge=1)
    page_size_max: int = Field(default=100, ge=1, le=100)
    followees_max: int = 7_500
    comment_mentions_max: int = Field(default=20, ge=0, le=100)
    token_wait_ms: int = 250
    apply_wait_s: float = 5.0
    privacy_wait_s: float = 2.0
    position_poll_ms: int = 5
    position_seen_ms: int = 1_000
    log_ends_interval_ms: int = 20

    # Many likes over one stream
    recording_unacknowledged_max: int = Field(default=4_000, ge=1)
    recording_check_items: int = Field(default=1_000, ge=1)
    recording_check_s: float = 5.0

    # Feed
    chunk_rows_max: int = 1_000
    follower_page_rows: int = 5_000
    large_author_followers: int = 5_000
    plan_posts_max: int = 100
    follower_pages_parallel: int = 8
    chunks_parallel: int = 32
    delivery_batch_rows: int = 150
    delivery_batches_parallel: int = 32
    delivery_records_max: int = 50
    delivery_wait_s: float = 0.02
    delivery_stall_s: float = 60.0
    cassandra_timeout_s: float = 5.0
    cassandra_reads_parallel: int = 64
    feed_tables_refresh_s: float = Field(default=1.0, gt=0)
    feed_tables_lease_s: float = Field(default=5.0, gt=0)
    replay_settle_s: float = Field(default=12.0, ge=0)
    gossip_check_interval_s: float = 1.0
    node_silent_s: float = 10.0
    position_history_minutes: int = 24 * 60

    # Media
    image_bytes_max: int = 20 * 1024 * 1024
    image_pixels_max: int = 50_000_000
    image_side_max: int = 12_000
    video_bytes_max: int = 100 * 1024 * 1024
    video_side_max: int = 4_096
    video_duration_max_s: int = 60
    upload_deadline_s: int = 120
    uploads_parallel_max: int = 4
    uploads_waiting_max: int = 64
    clean_timeout_s: float = 30.0
    clean_memory_bytes_max: int = 2 * 1024 * 1024 * 1024
    clean_jobs_a_worker: int = 500
    spool_dir: str = ""
    spool_bytes_max: int = 2 * 1024 * 1024 * 1024
    download_chunk_bytes: int = 256 * 1024
    objects_timeout_s: float = 30.0
    orphan_age_s: int = 24 * 3600
    orphan_margin_s: int = 600
    orphan_ratio_max: float = 0.5
    orphan_ratio_objects: int = 100
    sweep_interval_s: int = 3600
    sweep_wait_s: float = 60.0

    # Rates and streams
    rate_sync_ms: int = Field(default=200, ge=1)
    rate_keys_max: int = Field(default=20_000, ge=1)
    rate_sync_keys_max: int = Field(default=1_000, ge=1)
    rate_loopback: bool = False
    rate_window_s: int = Field(default=10, ge=1)
    rate_user_calls_per_s_max: int = 1_000
    rate_user_writes_per_s_max: int = 500
    rate_address_calls_per_s_max: int = 5_000
    rate_registers_per_hour_max: int = 100
    rate_log_in_window_s: int = Field(default=900, ge=1)
    rate_log_in_failures_max: int = 10
    rate_log_in_address_failures_max: int = 200
    rate_log_in_handle_failures_max: int = 100
    rate_uploads_per_hour_max: int = 5_000
    rate_stream_bytes_per_hour_max: int = 20 * 1024 * 1024 * 1024
    streams_max: int = 1_000
    streams_a_user_max: int = 64
    stream_idle_max_s: float = 60.0

    # Processes
    grpc_address: str = "127.0.0.1:50051"
    grpc_nice: int = Field(default=-15, ge=-20, le=19)
    grpc_realtime: bool = False
    grpc_acceptors: int = Field(default=8, ge=1, le=64)
    grpc_connections_max: int = Field(default=10_000, ge=1)
    grpc_handshake_s: float = 10.0
    grpc_streams_max: int = 1_000
    grpc_message_bytes_max: int = Field(default=2 * 1024 * 1024, gt=1024 * 1024)
    grpc_calls_max: int = 2_000
    admission_delay_ms: int = Field(default=200, ge=0)
    admission_calls_start: int = Field(default=200, ge=1)
    admission_calls_min: int = Field(default=48, ge=1)
    admission_heard_ms: int = Field(default=50, ge=1)
    admission_interval_ms: int = Field(default=100, ge=1)
    grpc_idle_max_s: int = 600
    grpc_connection_age_max_s: int = 1_800
    grpc_keepalive_s: int = 60
    handler_deadline_s: float = 10.0
    request_wait_s: float = 5.0
    stop_grace_s: float = 5.0
    collector_objects: int = Field(default=50_000, ge=1)
    metrics_port: int = 0
    health_port: int = 0
    health_interval_s: float = 1.0
    ports_file: str = ""
    worker: int = 0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    traces_told_per_s_max: int = 100
    user_id_block: int = 1_000

    @model_validator(mode="after")
    def _orphans_outlive_uploads(self) -> Self:
        if self.orphan_age_s <= self.upload_deadline_s + self.orphan_margin_s:
            raise ValueError("orphan_age_s must be above upload_deadline_s + orphan_margin_s")
        return self

    @model_validator(mode="after")
    def _lower_ones_are_lower(self) -> Self:
        for lower, higher in (
            ("page_size_default", "page_size_max"),
            ("streams_a_user_max", "streams_max"),
            ("admission_calls_min", "admission_calls_start"),
        ):
            if getattr(self, lower) > getattr(self, higher):
                raise ValueError(f"{lower} must not be above {higher}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given: dict[str, Any] = {**env_settings(), **init_settings()}
        stack_file = given.get("stack_file")
        if not stack_file:
            return init_settings, env_settings
        file = Path(stack_file)
        # The source would pass over a name with a typo, and the defaults be somebody else's.
        if not _is_stack_file(file):
            raise ValueError(f"the stack file {file} is not there, or not one")
        return init_settings, env_settings, JsonConfigSettingsSource(settings_cls, json_file=file)


@cache
def settings() -> Settings:
    """The process's settings, read once. Raises as `settings_with`."""
    return settings_with()


def settings_with(**given: Any) -> Settings:
    """The environment's, but for what is given.

    Raises InvalidRequest that names each variable and never its value, which may be a secret.
    """
    try:
        return Settings.model_validate(given)
    except ValidationError as wrong:
        raise InvalidRequest("; ".join(map(_told, wrong.errors()))) from None
    except OSError as wrong:
        raise InvalidRequest(f"the stack file cannot be read: {wrong}") from None


def _is_stack_file(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_text()), dict)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
        return False


def _told(problem: ErrorDetails) -> str:
    name = "".join(map(str, problem["loc"]))
    said = problem["msg"].removeprefix("Value error, ")
    return f"{Settings.model_config['env_prefix']}{name.upper()}: {said}" if name else said
