-- Rendered from the declarations in millrace/views. Never change an applied migration.

ALTER TABLE "names" ADD COLUMN "frees_name_key" bytea NOT NULL DEFAULT '';

ALTER TABLE "names" ADD COLUMN "frees_claim_number" bigint NOT NULL DEFAULT 0;
