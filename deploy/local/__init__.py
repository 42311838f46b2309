"""Millrace on one machine: the real servers as child processes on loopback.

`install/` brings what is missing, `stack.py` starts, watches and stops the children,
`python -m deploy.local` is the plain runner for development and tests.
Not: production; everything listens on 127.0.0.1 without TLS.
"""
