"""What Millrace's services and processors share. `docs/architecture.md` is the map."""
