"""What goes on beside learning and decides nothing of its result: progress, messages, where
checkpoints are kept.

Knows: what a caller may want to be told.  Does not know: what is learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int, float], None]
"""Called after each step with the step, their number, and the loss."""

Say = Callable[[str], None]
"""Called with one line for the user."""


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class Watch:
    """``store`` keeps checkpoints (None: none), one every ``checkpoint_seconds`` or, where writing
    takes long, so seldom that it takes a twentieth of the time; 0 writes one after every step.
    ``spare`` keeps what the store cannot, where it may not be written or is full.  ``encodings``
    keeps what the encoders made, by content.
    """

    progress: Progress | None = None
    say: Say = _silent
    store: Path | None = None
    checkpoint_seconds: float = 30.0
    encodings: Path | None = None
    spare: Path | None = None
    warn: Say | None = None

    def caution(self, line: str) -> None:
        """Say what the user should know in any case: to ``warn``, or to ``say`` where there is
        none.
        """
        (self.warn or self.say)(line)
