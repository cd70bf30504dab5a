"""Rows scored again from the predictions kept beside them: numbers are recomputed from masks, never believed.

Knows: what a row and its predictions say, and whether they agree.  Does not know: where a dataset comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from prisbench.datasets.load import Dataset
from prisbench.datasets.named import NAMES, find_dataset
from prisbench.datasets.samples import has_sample
from prisbench.errors import DataError
from prisbench.leaderboard.ceilings import result_files
from prisbench.leaderboard.publish import kept_beside
from prisbench.leaderboard.rows import load_runs
from prisbench.predictions import PredictionRecord, lines_of, read_predictions
from prisbench.results import DatasetRef, QueryResult, Run, read_run
from prisbench.runtime.files import sha256_bytes
from prisbench.score import score_together

Find = Callable[[DatasetRef], Dataset | None]
"""Gives the dataset that a row was made on, None where it is not here."""


def finder(names: Sequence[str | Path] = (), say: Callable[[str], None] = lambda _: None) -> Find:
    """Finds datasets among some (as ``find_dataset`` takes them), those that prisbench draws itself, and samples of
    real photos whose files are here (``PRISBENCH_DATA``).
    """
    given = [find_dataset(str(name), say=say) for name in names]

    def find(data: DatasetRef) -> Dataset | None:
        for dataset in given:
            if dataset.digest == data.digest:
                return dataset
        return find_dataset(data.id, say=say) if data.id in NAMES or has_sample(data.id) else None

    return find


class Rescored(NamedTuple):
    """What became of one row.

    ``state``: "same" when its predictions, scored again, give its counts; "checksum" when they are the ones it was
    scored from, but its dataset is not here; "none" when no predictions are kept.
    """

    result_file: Path
    state: str
    n: int


WORDS = {
    "same": "{n} predictions scored again: the same numbers",
    "checksum": "{n} predictions with the right checksum; not scored again, its data is not here",
    "none": "no predictions kept beside it; its numbers cannot be made again",
}


def rescore(folder: Path, find: Find) -> Iterator[Rescored]:
    """Every row of a leaderboard folder; all rows of a split are scored in one reading of it.

    Raises DataError, naming the file and the query, when predictions are not those a row was scored from, when scoring
    them again gives another number, and for predictions without a row.
    """
    paths = result_files(folder)
    load_runs(folder)
    beside = {kept_beside(path) for path in paths}
    for path in sorted(folder.glob("*.predictions.jsonl.gz")):
        if path not in beside:
            raise DataError(
                f"{path} has no result file beside it; remove it, or put {path.name.split('.')[0]}.json back"
            )
    found: dict[str, Dataset | None] = {}
    kept = [_Kept.read(path, found, find) for path in paths]
    again = _scored_again(kept)
    for each in kept:
        yield each.held_to(again.get(each.path))


def kept_records(path: Path, run: Run) -> list[PredictionRecord] | None:
    """The predictions kept beside a result file; None where there are none.

    Raises DataError when they are not those that the run was scored from.
    """
    kept = kept_beside(path)
    if not kept.is_file():
        return None
    records = read_predictions(kept)
    if run.predictions is None or sha256_bytes(lines_of(records)) != run.predictions.sha256:
        raise DataError(f"{kept} are not the predictions that {path.name} was scored from (another checksum)")
    return records


def rescore_one(path: Path, run: Run, found: dict[str, Dataset | None], find: Find) -> Rescored:
    """One row; ``found`` keeps the datasets by digest.  Raises as ``rescore``."""
    kept = _Kept.read(path, found, find, run)
    return kept.held_to(_scored_again([kept]).get(path))


class _Kept(NamedTuple):
    """A row, its predictions, None where none are kept, and its dataset, None where it is not here."""

    path: Path
    run: Run
    records: Sequence[PredictionRecord] | None
    dataset: Dataset | None

    @classmethod
    def read(cls, path: Path, found: dict[str, Dataset | None], find: Find, run: Run | None = None) -> _Kept:
        """``found`` keeps the datasets by digest."""
        run = run or read_run(path)
        records, digest = kept_records(path, run), run.dataset.digest
        if records is None:
            return cls(path, run, None, None)
        if digest not in found:
            found[digest] = find(run.dataset)
        dataset = found[digest]
        if dataset is not None and dataset.digest != digest:
            raise DataError(
                f"{path}: made on a dataset with the digest {digest[:16]}, here it is {dataset.digest[:16]}"
            )
        return cls(path, run, records, dataset)

    def held_to(self, again: Sequence[QueryResult] | None) -> Rescored:
        """What became of the row, whose predictions were scored again, or not."""
        if self.records is None:
            return Rescored(self.path, "none", len(self.run.queries))
        if again is None:
            return Rescored(self.path, "checksum", len(self.records))
        _compare(self.path, self.run.queries, again)
        return Rescored(self.path, "same", len(self.records))


def _scored_again(rows: Sequence[_Kept]) -> dict[Path, list[QueryResult]]:
    """What predictions say of every query, for rows whose data is here; all rows of a split are scored in one go."""
    together: dict[tuple[str, str], list[_Kept]] = {}
    for each in rows:
        if each.records is not None and each.dataset is not None:
            together.setdefault((each.dataset.digest, each.run.dataset.split), []).append(each)
    found: dict[Path, list[QueryResult]] = {}
    for (_, split), group in together.items():
        names = {str(kept_beside(each.path)): each for each in group}
        dataset = group[0].dataset
        assert dataset is not None
        results = score_together({name: each.records or () for name, each in names.items()}, dataset.examples(split))
        found |= {names[name].path: queries for name, queries in results.items()}
    return found


def _compare(path: Path, written: Sequence[QueryResult], again: Sequence[QueryResult]) -> None:
    """Raises DataError for the first query whose counts, presence, pair or error differ.

    Soft average precision is left out: masks alone cannot give it.
    """
    by_id = {query.query_id: query for query in written}
    if by_id.keys() != {query.query_id for query in again}:
        raise DataError(f"{path}: its queries are not those of its dataset; score its predictions again")
    for query in again:
        there = replace(by_id[query.query_id], soft_ap=None, seconds=None)
        now = replace(query, soft_ap=None, seconds=None)
        for name, value in {**vars(now), **vars(now.counts)}.items():
            old = {**vars(there), **vars(there.counts)}[name]
            if name != "counts" and old != value:
                raise DataError(
                    f"{path}: query {query.query_id!r} has {name} {old!r}, its prediction scored again {value!r}; the "
                    "number was not made by these masks"
                )
