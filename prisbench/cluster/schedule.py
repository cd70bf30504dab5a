"""Units of work given to workers, one at a time each; what dies is tried again, and given up after ``TRIES``.

Units are taken from an iterator when a worker is free, so nothing here grows with their number.

Knows: units, workers that may die.  Does not know: processes, Ray, what a unit does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from prisbench.errors import DataError, PrisbenchError, UsageError

TRIES = 3
"""Deaths at one unit, after which it is given up; deaths of one worker without a finished unit, after which it is."""

SUBJECT, SHARD = "subject", "shard"
"""Kinds of units: one subject to learn, the images of one shard to answer the queries about."""


class Unit(NamedTuple):
    """A piece of work by its name: a subject's id, or a shard like ``3/8``.  ``tried``: how often it was begun."""

    kind: str
    name: str
    tried: int = 0

    @property
    def words(self) -> str:
        return f"{self.kind} {self.name}"


class Outcome(NamedTuple):
    """What became of a unit: the ``value`` that it gave, how its worker ``died``, or the mistake that it found."""

    worker: int
    unit: Unit
    value: Any = None
    died: str | None = None
    error: PrisbenchError | None = None


@runtime_checkable
class Workers(Protocol):
    """Some workers, by number from 0; one that has died starts afresh with its next unit."""

    @property
    def names(self) -> Sequence[str]:
        """What each is called, in messages."""
        ...

    def give(self, worker: int, unit: Unit) -> None:
        """Start a unit on a worker that has none."""
        ...

    def wait(self) -> Outcome:
        """The next unit that has ended, however."""
        ...

    def close(self) -> None:
        """End all of them, whatever they do."""
        ...


def carry_out(
    workers: Workers,
    units: Iterable[Unit],
    done: Callable[[Unit, Any], None],
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Every unit once, in about their order; ``done`` is called with each and what it gave.

    A unit at which a worker died is tried again, by another worker where there are several.  After one that is given
    up, units of other kinds than it are not begun.  A worker that dies ``TRIES`` times in a row gets no more.

    Raises the first mistake that a unit found; at the end DataError, naming them, where units were given up, UsageError
    where all workers were.
    """
    board = _Board(workers, iter(units), say)
    while board.hand_out():
        outcome = workers.wait()
        if outcome.error is not None:
            raise outcome.error
        if outcome.died is not None:
            board.died(outcome)
        else:
            board.finished(outcome)
            done(outcome.unit, outcome.value)
    board.check()


class _Board:
    """Who is free, who is at what, what waits to be tried again, what is given up."""

    def __init__(self, workers: Workers, units: Iterator[Unit], say: Callable[[str], None]) -> None:
        self.workers, self.units, self.say = workers, units, say
        self.free = deque(range(len(workers.names)))
        self.busy = 0
        self.again = deque[tuple[Unit, int]]()
        self.deaths = dict[int, int]()
        self.given_up: list[tuple[Unit, str]] = []
        self.retired: list[tuple[int, Outcome]] = []
        self.ahead: Unit | None = None

    def hand_out(self) -> bool:
        """Give every free worker a unit; False where nobody has one then."""
        for _ in range(len(self.free)):
            worker = self.free.popleft()
            unit = self._next(worker)
            if unit is None:
                self.free.append(worker)
            else:
                self._give(worker, unit)
        if not self.busy and self.again and self.free:  # only those who died at it are left
            self._give(self.free.popleft(), self.again.popleft()[0])
        return self.busy > 0

    def _give(self, worker: int, unit: Unit) -> None:
        self.workers.give(worker, unit)
        self.busy += 1

    def _next(self, worker: int) -> Unit | None:
        for _ in range(len(self.again)):
            unit, killer = self.again.popleft()
            if killer != worker or self._alone():
                return unit
            self.again.append((unit, killer))
        if self.ahead is None:
            self.ahead = next(self.units, None)
        open_ones = (unit for unit, _ in (*self.given_up, *self.again))
        if self.ahead is None or any(unit.kind != self.ahead.kind for unit in open_ones):
            return None
        unit, self.ahead = self.ahead, None
        return unit

    def _alone(self) -> bool:
        """Whether no other worker could take what one has died at."""
        return len(self.workers.names) - len(self.retired) == 1

    def finished(self, outcome: Outcome) -> None:
        self.busy -= 1
        self.deaths.pop(outcome.worker, None)
        self.free.append(outcome.worker)

    def died(self, outcome: Outcome) -> None:
        self.busy -= 1
        unit = outcome.unit._replace(tried=outcome.unit.tried + 1)
        count = self.deaths[outcome.worker] = self.deaths.get(outcome.worker, 0) + 1
        name = self.workers.names[outcome.worker]
        if unit.tried >= TRIES:
            self.given_up.append((unit, str(outcome.died)))
            self.say(f"{unit.words} is given up: its worker died {TRIES} times, last {name} ({outcome.died})")
        else:
            self.again.append((unit, outcome.worker))
            self.say(f"{name} died at {unit.words} ({outcome.died}); it is tried again")
        if count >= TRIES and unit.tried < TRIES:
            self.retired.append((outcome.worker, outcome))
            self.say(f"{name} died {TRIES} times in a row and gets no more; the others go on")
            return
        self.free.append(outcome.worker)

    def check(self) -> None:
        """Raises as ``carry_out`` at its end."""
        if self.again or (self.ahead is not None and not self.given_up):
            last = self.retired[-1][1]
            raise UsageError(
                f"every worker died {TRIES} times in a row, last at {last.unit.words} ({last.died}); what is answered "
                "is kept, and the same command goes on; try fewer --workers where memory is short"
            )
        if self.given_up:
            named = "; ".join(f"{unit.words} ({why})" for unit, why in self.given_up[:TRIES])
            more = len(self.given_up) - TRIES
            raise DataError(
                f"given up after {TRIES} tries each: {named}{f'; and {more} more' if more > 0 else ''}; all else is "
                "kept, and the same command tries them again"
            )
