"""The log: topics, numbers, positions, and the two ways to write and read them.

Not: what an event means to a view (`millrace/views`).
"""
