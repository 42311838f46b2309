"""Declare what relates to what; storage, reads, counts and paging follow.

Entity: rows by key. Edge: pairs of ids. Timeline: an owner's items, newest first.
"""

from millrace.relations.edge import Edge, Timeline
from millrace.relations.entity import Entity
from millrace.relations.plain import PlainEdges
from millrace.relations.view import View, plain_view

__all__ = ["Edge", "Entity", "PlainEdges", "Timeline", "View", "plain_view"]
