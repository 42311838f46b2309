"""What `millrace bench NAME` measures, each against the bare part driven in the same run.

One bench a module: `async run(effort, told) -> list[Row]`. Each has servers of its own in a fresh
folder under build/bench; product and bare part take turns (A B A B …), so that what else the
machine does falls on both. Nothing here is a threshold.
"""
