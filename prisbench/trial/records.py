"""What a trial finds: a line for each check.

Knows: names of checks.  Does not know: how they are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CHECKS: Mapping[str, str] = {
    "loads": "its file and make(options)",
    "protocol": "name, settings, learn and locate",
    "learns": "a Concept of every subject",
    "answers": "one Prediction a query: types, numbers, order",
    "sizes": "scenes that are not square, of odd sizes",
    "absent": "a scene without the subject",
    "several": "several subjects in one scene",
    "alone": "one query alone, as in company",
    "order": "queries in another order",
    "again": "the same call again, and a second copy of the method",
    "images": "images in another order",
    "ahead": "several scenes looked at together, where it can",
    "arguments": "what it is given stays as it is",
    "truth": "never sees a truth",
    "candidates": "the parts that it offers, where it does",
    "stdout": "nothing on stdout",
    "time": "comes back in time",
}
"""The checks in their order, each with what it looks at."""

STATES = ("ok", "FAILED", "note", "skipped", "not reached")
"""What becomes of a check.  A note is told and fails nothing."""


@dataclass(frozen=True)
class Check:
    """What one check found: ``name`` of ``CHECKS``, ``state`` of ``STATES``, and what was seen, with the mend."""

    name: str
    state: str
    said: str = ""

    @property
    def failed(self) -> bool:
        return self.state == "FAILED"


@dataclass(frozen=True)
class Trial:
    """All checks of one method.  ``learn_seconds``: of all subjects; ``image_seconds``: of the slowest image."""

    method: str
    checks: Sequence[Check] = ()
    learn_seconds: float | None = None
    image_seconds: float | None = None
    seconds: float = 0.0
    printed: Sequence[str] = field(default=())

    @property
    def failures(self) -> list[Check]:
        return [check for check in self.checks if check.failed]

    @property
    def complaint(self) -> str | None:
        """One line about what failed; None where nothing did."""
        failed = self.failures
        if not failed:
            return None
        counted = [check for check in self.checks if check.state in ("ok", "FAILED", "note")]
        more = f"; also failed: {', '.join(check.name for check in failed[1:])}" if len(failed) > 1 else ""
        return f"{self.method}: {len(failed)} of {len(counted)} checks failed: {failed[0].name}: {failed[0].said}{more}"

    def as_record(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "method": self.method,
            "ok": not self.failures,
            "learn_seconds": self.learn_seconds,
            "image_seconds": self.image_seconds,
            "seconds": round(self.seconds, 3),
            "checks": [{"name": each.name, "state": each.state, "said": each.said} for each in self.checks],
        }
