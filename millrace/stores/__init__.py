"""Where views are kept: PostgreSQL, Cassandra, objects, each with an in-memory twin.

A store knows tables, rows, changes and positions; it does not know what they mean. The drivers
are imported here and nowhere else.
"""
