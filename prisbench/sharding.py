"""Shares of a run for several processes or machines: which images belong to which.

An image belongs to the same shard wherever and whenever it is asked, so nobody has to tell anybody what is done.

Knows: ids, numbers, the variables of a Slurm array.  Does not know: datasets, runs, how a shard is carried out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from prisbench.errors import UsageError

SHARDS = "shards"
"""The folder of a run that holds its shards."""

MOST = 100_000
"""Shards of a run; more than any array has tasks."""


@dataclass(frozen=True, order=True)
class Shard:
    """One of ``of`` shares, ``number`` from 1."""

    of: int
    number: int

    @property
    def folder(self) -> str:
        """What its folder below ``SHARDS`` is called."""
        return f"{self.number}-of-{self.of}"

    @property
    def words(self) -> str:
        """As a user says it: ``3/8``."""
        return f"{self.number}/{self.of}"

    def holds(self, image_id: str) -> bool:
        """Whether the queries about an image are in it."""
        return shard_of(image_id, self.of) == self.number


def shard_of(image_id: str, of: int) -> int:
    """The number, 1 to ``of``, of the shard that an image is in: 64 bits of the SHA-256 of its id, modulo ``of``."""
    return 1 + int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8]) % of


def turned(names: list[str], shard: Shard | None) -> list[str]:
    """The names in their order, begun at the shard's own place in it: processes that start together learn different
    subjects first, and find the others' in the store.
    """
    start = 0 if shard is None else (shard.number - 1) * len(names) // shard.of
    return names[start:] + names[:start]


def parse_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """``3/8``, or ``slurm``: this task of the Slurm array that the environment tells of.

    Raises UsageError for what is neither, and where the array is a part of one: its shards would be others.
    """
    if text == "slurm":
        return _of_slurm(environment)
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    number, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= of <= MOST:
        raise UsageError(
            f"--shard {text}: give NUMBER/OF, counted from 1, such as 3/8; or slurm, for a task of a Slurm array"
        )
    return Shard(of, number)


def _of_slurm(environment: Mapping[str, str]) -> Shard:
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN")]
    try:
        task, count, first = (int(environment[name]) for name in names)
        step = int(environment.get("SLURM_ARRAY_TASK_STEP") or 1)
    except KeyError as error:
        raise UsageError(
            f"--shard slurm: the environment has no {error.args[0]}; submit it with sbatch --array=1-8, or say "
            "--shard NUMBER/OF"
        ) from None
    except ValueError:
        values = ", ".join(f"{name}={environment[name]!r}" for name in names)
        raise UsageError(f"--shard slurm: the array's variables are no numbers ({values})") from None
    place, rest = divmod(task - first, step)
    if rest or not 0 <= place < count <= MOST or first > 1 or (count == 1 and task == 1 == first):
        raise UsageError(
            f"--shard slurm: task {task} of {count} from {first} is no whole array from 0 or 1, so its shards would be "
            f"others than the first time; say --shard {task}/OF, with OF of the whole array"
        )
    last = environment.get("SLURM_ARRAY_TASK_MAX")
    if last is not None and last.isdigit() and int(last) != first + (count - 1) * step:
        raise UsageError(
            f"--shard slurm: the array has gaps ({count} tasks from {first} to {last}), so its shards would be others "
            f"than the first time; say --shard {task}/OF, with OF of the whole array"
        )
    return Shard(count, place + 1)
