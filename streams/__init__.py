"""The processors: what reads the log and fills views and feeds. They answer nobody's call."""
