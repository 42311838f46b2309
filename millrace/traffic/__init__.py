"""Synthetic traffic: what people would do, done to a running Millrace, and what came of it.

Open loop: a seeded plan says when each call starts, whatever became of those before it.
Not: a load test of one RPC alone (`millrace bench rpc`).
"""
