-- Rendered from the declarations in millrace/views. Never change an applied migration.

CREATE TABLE "saves" (
  "user_id" bigint NOT NULL DEFAULT 0,
  "media_id" bigint NOT NULL DEFAULT 0,
  "number" bigint NOT NULL DEFAULT 0,
  "version" bigint NOT NULL DEFAULT 0,
  "at_ms" bigint NOT NULL DEFAULT 0,
  "live" boolean NOT NULL DEFAULT false,
  PRIMARY KEY ("user_id", "media_id") INCLUDE (live, version, at_ms)
);

CREATE TABLE "saves_count" (
  "id" bigint NOT NULL DEFAULT 0,
  "value" bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (id)
) WITH (fillfactor = 50);
