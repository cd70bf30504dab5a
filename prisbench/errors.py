"""Every mistake a user can mend, as one small tree.

    PrisbenchError                 one line for the user, exit code 1
    ├── UsageError                 a wrong option, name or text
    │   └── UnknownNameError       a name we do not know; offers the nearest one
    ├── DataError                  a file or folder that is missing, empty, corrupt or of another version
    ├── BackboneError              a model that cannot be loaded or does not fit
    ├── MissingExtraError          an optional package that is not installed
    └── WriteError                 a target we may not write, or a full disk

A message says what is wrong, with the value, and how to mend it.  The command line prints it without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PrisbenchError(Exception):
    """Something the user can mend; ``str(error)`` is one line."""


class UsageError(PrisbenchError):
    """An option, a name or a text that does not make sense."""


MOST_SHOWN = 40
"""Names that a message lists."""


class UnknownNameError(UsageError):
    """A name outside a known set; the message offers the nearest known name."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        choices = sorted(known)
        near = difflib.get_close_matches(name, choices, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        shown = (
            choices if len(choices) <= MOST_SHOWN else [*choices[:MOST_SHOWN], f"and {len(choices) - MOST_SHOWN} more"]
        )
        super().__init__(f"unknown {kind} {name!r}: {hint}known: {', '.join(shown) or 'none'}")
        self.name = name
        self.near = near[0] if near else None


class DataError(PrisbenchError):
    """Data that is missing, empty, corrupt, or of another version."""


class BackboneError(PrisbenchError):
    """A model that cannot be loaded, or that does not fit what it is needed for."""


class MissingExtraError(PrisbenchError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed: pip install 'prisbench[{extra}]'")


class WriteError(PrisbenchError):
    """A file could not be written; what stood there before is untouched."""
