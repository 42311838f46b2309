"""gRPC services: take a request, check it, write the log, read views. One servicer a noun.

`frame` does for every RPC what no handler should have to think of. Not: processing events;
services and `streams` meet only in the log and the views.
"""
