"""A file of tuned settings: what was chosen, and everything that was tried, so that the choice can be checked.

Knows: the file, and what a sound choice is.  Does not know: how a setting was scored.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import create_model

from prisbench.errors import DataError, UsageError
from prisbench.runtime.files import read_bytes, sha256_bytes, write_json
from prisbench.runtime.strict_json import Strict, parse, read
from prisbench.settings import MethodOptions

KIND = "prisbench tuned settings"


@dataclass(frozen=True)
class Tried:
    """A setting and what it scored, 0..1; ``settings`` without those that were the same for all."""

    settings: dict[str, Any]
    score: float
    by_subset: dict[str, float]
    errors: int
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """The choice: ``fixed`` settings are the same in all that was tried, ``tried[0]`` adds none to them (published).

    ``metric``: "headline", or "iou_mean" on a set without one.  ``sample``: SHA-256 of the ids of the queries.
    ``gain``: ``score`` minus ``published``; ``gain_interval``: its 95 % interval over subjects, both settings on the
    same queries, None where they are too few.  It is that of the best of many, so it flatters.
    """

    method: str
    concept: str | None
    model: str | None
    reference: str
    fixed: dict[str, Any]
    settings: dict[str, Any]
    budget: int
    seed: int
    metric: str
    score: float
    published: float
    gain: float
    gain_interval: list[float] | None
    dataset: str
    digest: str
    split: str
    subjects: int
    queries: int
    sample: str
    space: dict[str, list[Any]]
    prisbench_version: str
    tried: list[Tried]

    @property
    def told_apart(self) -> bool:
        """Whether the choice is better than the published settings by more than its interval."""
        return self.gain_interval is not None and self.gain_interval[0] > 0


def doubt(tuned: Tuned) -> str | None:
    """One line where the sample does not show that the chosen settings are better than the published ones."""
    if not tuned.settings:
        return "nothing that was tried is better than the published settings: they stay"
    if tuned.told_apart:
        return None
    if tuned.gain_interval is None:
        return f"{tuned.subjects} subjects are too few for an interval; whether the choice is better is not known"
    low, high = tuned.gain_interval
    return (
        f"WARNING: the choice is {tuned.gain:+.3f} [{low:+.3f}, {high:+.3f}] from the published settings, and the "
        "interval holds 0: on these queries the two are not told apart"
    )


def best_of(tried: list[Tried]) -> Tried:
    """The highest score; of equal ones the first, so that what is published stays unless something is better."""
    return max(tried, key=lambda each: each.score)


def gain_of(best: Tried, published: Tried) -> float:
    """The score of the choice minus that of the published settings."""
    return round(best.score - published.score, 6)


def write_tuned(tuned: Tuned, path: Path) -> Path:
    """Write the file, whole or not at all."""
    return write_json(path, {"kind": KIND, **asdict(tuned)})


def read_tuned(path: Path) -> Tuned:
    """The choice in a file.  Raises DataError, naming it, for a damaged one, and where what was tried says other."""
    data = read_bytes(path)
    if parse(data, str(path)).get("kind") != KIND:
        raise DataError(f"{path} holds no tuned settings; make them with `prisbench tune METHOD`")
    found = read(_File, data, str(path))
    tuned = Tuned(**{each.name: getattr(found, each.name) for each in fields(Tuned)})
    if not tuned.tried or tuned.tried[0].settings:
        raise DataError(f"{path}: the first of what was tried is not the published setting; tune again")
    best = best_of(tuned.tried)
    said = {"settings": (tuned.settings, best.settings), "score": (tuned.score, best.score)}
    said |= {"published": (tuned.published, tuned.tried[0].score), "budget": (tuned.budget, len(tuned.tried))}
    said |= {"gain": (tuned.gain, gain_of(best, tuned.tried[0]))}
    for key, (there, follows) in said.items():
        if there != follows:
            raise DataError(f"{path}: {key!r} is {there!r}, but of what was tried it would be {follows!r}; tune again")
    if tuned.split == "test":
        raise DataError(f"{path}: its settings were chosen on test, which no row may be; tune on validation")
    return tuned


def for_a_run(path: Path, options: MethodOptions, reference: str) -> tuple[MethodOptions, dict[str, Any]]:
    """The options with a file's settings, and what the record of a run says of them (``RunOptions.tuned``).

    Raises as ``read_tuned``; UsageError for options that the settings were not tuned with.
    """
    tuned = read_tuned(path)
    if options.settings:
        raise UsageError(f"--set {next(iter(options.settings))}: not with --settings-file, which says all settings")
    for name, wanted, given in (("concept", tuned.concept, options.concept), ("model", tuned.model, options.model)):
        if given is not None and given != wanted:
            how = f"--{name} {wanted}" if wanted else f"no --{name}"
            raise UsageError(f"--{name} {given}: {path} was tuned with {how}; tune again, or leave it out")
    if reference != tuned.reference:
        raise UsageError(f"{path} was tuned with --reference {tuned.reference}, not {reference}; say so, or tune again")
    kept = (
        *("method", "concept", "model", "fixed", "settings", "budget", "seed", "metric", "score", "published"),
        *("gain", "gain_interval", "dataset", "digest", "split", "subjects", "queries", "sample", "space"),
    )
    record = {key: getattr(tuned, key) for key in kept} | {"sha256": sha256_bytes(read_bytes(path))}
    record["tried"] = [asdict(each) for each in tuned.tried]
    settings = {**tuned.fixed, **tuned.settings}
    return replace(options, concept=tuned.concept, model=tuned.model, settings=settings), record


_File = create_model(
    "_File",
    __base__=Strict,
    kind=(str, ...),
    **{name: (kind, ...) for name, kind in get_type_hints(Tuned).items()},  # type: ignore[call-overload]
)
"""What stands in the file: the kind, and the fields of ``Tuned``."""
