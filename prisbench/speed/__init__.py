"""The same numbers, to rounding, in less time or memory."""
