-- Rendered from the declarations in millrace/views. Never change an applied migration.

CREATE TABLE positions (
  view text COLLATE "C" NOT NULL,
  shard_from integer NOT NULL,
  shard_to integer NOT NULL,
  topic text COLLATE "C" NOT NULL,
  partition integer NOT NULL,
  epoch bigint NOT NULL,
  log_id bigint NOT NULL,
  position bigint NOT NULL,
  PRIMARY KEY (view, shard_from, topic, partition)
) WITH (fillfactor = 25);

CREATE TABLE "users" (
  "user_id" bigint NOT NULL DEFAULT 0,
  "name_key" bytea NOT NULL DEFAULT '',
  "claim_number" bigint NOT NULL DEFAULT 0,
  "handle" text COLLATE "C" NOT NULL DEFAULT '',
  "display_name" text COLLATE "C" NOT NULL DEFAULT '',
  "bio" text COLLATE "C" NOT NULL DEFAULT '',
  "registered_ms" bigint NOT NULL DEFAULT 0,
  "number" bigint NOT NULL DEFAULT 0,
  "ended" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("user_id")
);

CREATE TABLE "names" (
  "name_key" bytea NOT NULL DEFAULT '',
  "user_id" bigint NOT NULL DEFAULT 0,
  "request_id" bytea NOT NULL DEFAULT '',
  "body_mac" bytea NOT NULL DEFAULT '',
  "claim_number" bigint NOT NULL DEFAULT 0,
  "claimed_ms" bigint NOT NULL DEFAULT 0,
  "number" bigint NOT NULL DEFAULT 0,
  "ended" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("name_key")
);

CREATE TABLE "vault" (
  "user_id" bigint NOT NULL DEFAULT 0,
  "kind" integer NOT NULL DEFAULT 0,
  "family" bytea NOT NULL DEFAULT '',
  "box" bytea NOT NULL DEFAULT '',
  "number" bigint NOT NULL DEFAULT 0,
  "ended" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("user_id", "kind", "family")
);

CREATE TABLE "media" (
  "media_id" bigint NOT NULL DEFAULT 0,
  "author_id" bigint NOT NULL DEFAULT 0,
  "kind" integer NOT NULL DEFAULT 0,
  "width" integer NOT NULL DEFAULT 0,
  "height" integer NOT NULL DEFAULT 0,
  "duration_ms" integer NOT NULL DEFAULT 0,
  "object_key" text COLLATE "C" NOT NULL DEFAULT '',
  "size_bytes" bigint NOT NULL DEFAULT 0,
  "content_sha256" bytea NOT NULL DEFAULT '',
  "caption" text COLLATE "C" NOT NULL DEFAULT '',
  "uploaded_number" bigint NOT NULL DEFAULT 0,
  "uploaded_ms" bigint NOT NULL DEFAULT 0,
  "number" bigint NOT NULL DEFAULT 0,
  "ended" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("media_id")
);

CREATE TABLE "media_requests" (
  "actor_id" bigint NOT NULL DEFAULT 0,
  "request_id" bytea NOT NULL DEFAULT '',
  "key" bigint NOT NULL DEFAULT 0,
  "body" bytea NOT NULL DEFAULT '',
  "number" bigint NOT NULL DEFAULT 0,
  "at_ms" bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (actor_id, request_id)
);

CREATE TABLE "media_by_author" (
  "author_id" bigint NOT NULL DEFAULT 0,
  "media_id" bigint NOT NULL DEFAULT 0,
  "number" bigint NOT NULL DEFAULT 0,
  "version" bigint NOT NULL DEFAULT 0,
  "at_ms" bigint NOT NULL DEFAULT 0,
  "live" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("author_id", "media_id") INCLUDE (live, version, at_ms)
);

CREATE TABLE "media_by_author_count" (
  "id" bigint NOT NULL DEFAULT 0,
  "value" bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (id)
) WITH (fillfactor = 50);

CREATE TABLE "follows" (
  "follower_id" bigint NOT NULL DEFAULT 0,
  "followee_id" bigint NOT NULL DEFAULT 0,
  "number" bigint NOT NULL DEFAULT 0,
  "version" bigint NOT NULL DEFAULT 0,
  "at_ms" bigint NOT NULL DEFAULT 0,
  "live" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("follower_id", "followee_id") INCLUDE (live, version, at_ms)
);

CREATE TABLE "followers" (
  "followee_id" bigint NOT NULL DEFAULT 0,
  "follower_id" bigint NOT NULL DEFAULT 0,
  "number" bigint NOT NULL DEFAULT 0,
  "version" bigint NOT NULL DEFAULT 0,
  "at_ms" bigint NOT NULL DEFAULT 0,
  "live" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("followee_id", "follower_id") INCLUDE (live, version, at_ms)
);

CREATE TABLE "follows_count" (
  "id" bigint NOT NULL DEFAULT 0,
  "value" bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (id)
) WITH (fillfactor = 50);

CREATE TABLE "followers_count" (
  "id" bigint NOT NULL DEFAULT 0,
  "value" bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (id)
) WITH (fillfactor = 50);

CREATE TABLE "likes" (
  "media_id" bigint NOT NULL DEFAULT 0,
  "user_id" bigint NOT NULL DEFAULT 0,
  "number" bigint NOT NULL DEFAULT 0,
  "version" bigint NOT NULL DEFAULT 0,
  "at_ms" bigint NOT NULL DEFAULT 0,
  "live" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("media_id", "user_id") INCLUDE (live, version, at_ms)
);

CREATE TABLE "likes_by_user" (
  "user_id" bigint NOT NULL DEFAULT 0,
  "media_id" bigint NOT NULL DEFAULT 0,
  "number" bigint NOT NULL DEFAULT 0,
  "version" bigint NOT NULL DEFAULT 0,
  "at_ms" bigint NOT NULL DEFAULT 0,
  "live" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("user_id", "media_id") INCLUDE (live, version, at_ms)
);

CREATE TABLE "likes_count" (
  "id" bigint NOT NULL DEFAULT 0,
  "value" bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (id)
) WITH (fillfactor = 50);
