"""Bring everything that Millrace needs onto a machine that has only Python, git and make.

Runs with the system's python3, so it imports the standard library alone. Each part looks for
the thing itself (a binary, a jar folder, a stamp), not for a package's name, and does nothing
when it is there.
Not: configuration of what it installs; the servers' settings are beside `deploy/local/stack.py`.
"""
