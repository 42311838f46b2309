-- Rendered from the declarations in millrace/views. Never change an applied migration.

CREATE TABLE "comments" (
  "comment_id" bigint NOT NULL DEFAULT 0,
  "media_id" bigint NOT NULL DEFAULT 0,
  "author_id" bigint NOT NULL DEFAULT 0,
  "text" text COLLATE "C" NOT NULL DEFAULT '',
  "mentioned_ids" bytea NOT NULL DEFAULT '',
  "added_number" bigint NOT NULL DEFAULT 0,
  "added_ms" bigint NOT NULL DEFAULT 0,
  "number" bigint NOT NULL DEFAULT 0,
  "ended" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("comment_id")
);

CREATE TABLE "comments_requests" (
  "actor_id" bigint NOT NULL DEFAULT 0,
  "request_id" bytea NOT NULL DEFAULT '',
  "key" bigint NOT NULL DEFAULT 0,
  "body" bytea NOT NULL DEFAULT '',
  "number" bigint NOT NULL DEFAULT 0,
  "at_ms" bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (actor_id, request_id)
);

CREATE TABLE "comments_by_media" (
  "media_id" bigint NOT NULL DEFAULT 0,
  "comment_id" bigint NOT NULL DEFAULT 0,
  "number" bigint NOT NULL DEFAULT 0,
  "version" bigint NOT NULL DEFAULT 0,
  "at_ms" bigint NOT NULL DEFAULT 0,
  "live" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("media_id", "comment_id") INCLUDE (live, version, at_ms)
);

CREATE TABLE "comments_by_media_count" (
  "id" bigint NOT NULL DEFAULT 0,
  "value" bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (id)
) WITH (fillfactor = 50);
