"""The unit of every count of work, where commands that do not need torch find it, too."""

FLOP_PER_MAC = 2
"""Floating-point operations of a multiply-accumulate."""

PASSES_PER_STEP = 3
"""Forward passes that a step is worth: a backward pass is two, a gradient of the input and one of the weights."""
