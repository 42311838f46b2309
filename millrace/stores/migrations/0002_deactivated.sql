-- Rendered from the declarations in millrace/views. Never change an applied migration.

ALTER TABLE "users" ADD COLUMN "deactivated" boolean NOT NULL DEFAULT false;
