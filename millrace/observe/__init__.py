"""What a process tells about itself: traces, logs, metrics, health.

Not: what the numbers mean for a release; that is `make bench` and the checks.
"""
