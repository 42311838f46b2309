"""The product as dicts, to judge the product by: no code of it is shared."""

from millrace.oracle.state import Oracle

__all__ = ["Oracle"]
