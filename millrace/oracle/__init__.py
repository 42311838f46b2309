"""The product as dicts, to judge the product by: no code of it is shared.

`Oracle` is what the log says. `Answers` is what each RPC must answer, from an Oracle of its own.
"""

from millrace.oracle.answers import Answers, Content
from millrace.oracle.refused import Impossible, Refused
from millrace.oracle.state import Oracle

__all__ = ["Answers", "Content", "Impossible", "Oracle", "Refused"]
