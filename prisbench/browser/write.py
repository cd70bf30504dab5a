"""A folder with ``board.html``, and with ``browse.html`` and its pictures where predictions and dataset are at hand.

Knows: which files there are, and that pictures come before the pages that show them.  Does not know: what is in a page.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prisbench.browser.board import board_data, board_page
from prisbench.browser.browse import browse_page
from prisbench.browser.cases import Cases, write_cases
from prisbench.datasets.load import SUBSET, Dataset
from prisbench.datasets.show.choose import choose
from prisbench.errors import DataError
from prisbench.leaderboard.ceilings import Ceilings, ceiling_notes, ceiling_rows, read_ceilings, result_files
from prisbench.leaderboard.reported import reported
from prisbench.leaderboard.rescore import Find, kept_records
from prisbench.leaderboard.rows import load_runs, standing
from prisbench.predictions import PredictionRecord
from prisbench.results import DatasetRef, Run
from prisbench.runtime.files import write_text
from prisbench.subsets import is_within

BOARD, BROWSE = "board.html", "browse.html"

MOST_QUERIES = 2000
"""Of a dataset that is looked at without methods; spread over subjects and query types."""

Step = Callable[[int, int], None]


class Overlay(NamedTuple):
    """A picture of the gallery; ``image`` is an encoded PNG, WebP or JPEG, ``caption`` says what it shows."""

    title: str
    caption: str
    image: bytes


class Pages(NamedTuple):
    """What was written; ``why`` says why there is no page of answers, None where there is one."""

    board: Path
    browse: Path | None
    why: str | None


def page_of(
    runs: Sequence[Run],
    gallery: Sequence[Overlay] = (),
    reported: Sequence[Mapping[str, str]] = (),
    cases: Cases | None = None,
    ceilings: Ceilings | None = None,
) -> str:
    """The leaderboard as one file, without runs that were retracted; it points to ``browse.html`` beside it where there
    are ``cases``.

    Raises DataError as ``rows.rows``, without runs, and for a gallery image of another kind.
    """
    pictures = [
        {"caption": f"{each.title}: {each.caption}" if each.title != each.caption else each.caption,
         "uri": _data_uri(each)}
        for each in gallery
    ]  # fmt: skip
    extra: dict[str, Any] = {
        "browse": None if cases is None else BROWSE,
        "gallery": pictures,
        "reported": list(reported),
    }
    if ceilings is not None:
        found = ceiling_rows(ceilings, runs)
        extra |= {"ceilings": [row._asdict() for row in found], "ceiling_notes": ceiling_notes(ceilings, found)}
    return board_page({**board_data(standing(runs), None if cases is None else cases.nouns), "extra": extra})


def gallery_in(folder: Path) -> list[Overlay]:
    """The PNG files of a folder, in the order of their names, each under its name."""
    named = [(path, path.stem.replace("-", " ")) for path in sorted(folder.glob("*.png"))]
    return [Overlay(name, name, path.read_bytes()) for path, name in named]


def write_pages(
    results: Path, out: Path, gallery: Sequence[Overlay], find: Find | None, step: Step = lambda done, total: None
) -> Pages:
    """The pages of a leaderboard folder, below ``out``.

    ``find`` gives the dataset, and is asked only where predictions are kept; None: no page of answers is wanted.
    Raises DataError as ``load_runs``, ``read_ceilings`` and ``kept_records``, and for a dataset that lacks a query;
    WriteError.
    """
    everything = load_runs(results)
    files = dict(zip(map(id, everything), result_files(results), strict=True))
    runs, data = standing(everything), everything[0].dataset
    found = {n: kept_records(files[id(run)], run) for n, run in enumerate(runs)}
    above = read_ceilings(results, data)
    kept = {n: records for n, records in found.items() if records is not None}
    dataset, why = _dataset(data, bool(kept), find)
    if dataset is None:
        return Pages(write_text(out / BOARD, page_of(runs, gallery, reported(results), ceilings=above)), None, why)
    wanted = {query.query_id for run in runs for query in run.queries}
    cases = write_cases(dataset, data.split, out, wanted, step)
    if missing := wanted - set(cases.queries):
        raise DataError(f"{dataset.folder} lacks query {min(missing)!r} of the results; it is another dataset")
    browse = write_text(out / BROWSE, browse_page(runs, cases, kept, data))
    return Pages(write_text(out / BOARD, page_of(runs, gallery, reported(results), cases, above)), browse, None)


def _dataset(data: DatasetRef, kept: bool, find: Find | None) -> tuple[Dataset | None, str | None]:
    if find is None:
        return None, "not asked for"
    if not kept:
        return None, "no predictions are kept beside the result files"
    dataset = find(data)
    if dataset is None:
        return None, f"the dataset {data.id} is not here; name it with --data"
    return dataset, None


def write_queries(
    dataset: Dataset,
    split: str,
    out: Path,
    subset: str | None = None,
    subject: str | None = None,
    step: Step = lambda done, total: None,
) -> Path:
    """``browse.html`` of a dataset alone, below ``out``: at most ``MOST_QUERIES`` of a split, a subset, a subject.

    Raises UnknownNameError for a subject, DataError at a damaged row, WriteError.
    """
    if subject is not None:
        (subject,) = dataset.find_subjects([subject], split)
    places = list(dataset.places("queries", split, ("id", "subject_id", SUBSET, "pair_id")))
    left = [each.keys for each in places if subject in (None, each.keys[1]) and is_within(subset, each.keys[2])]
    chosen = choose([(keys[1], keys[2].partition(":")[0]) for keys in left], MOST_QUERIES, [keys[3] for keys in left])
    cases = write_cases(dataset, split, out, {left[n][0] for n in chosen}, step)
    about = DatasetRef(dataset.name, dataset.version, dataset.digest, split)
    nobody: dict[int, Sequence[PredictionRecord]] = {}
    return write_text(out / BROWSE, browse_page([], cases, nobody, about))


def _data_uri(overlay: Overlay) -> str:
    head = overlay.image[:12]
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif head[:4] == b"RIFF" and head[8:] == b"WEBP":
        kind = "webp"
    elif head.startswith(b"\xff\xd8\xff"):
        kind = "jpeg"
    else:
        raise DataError(f"gallery image {overlay.title!r} is not PNG, WebP or JPEG")
    return f"data:image/{kind};base64,{base64.b64encode(overlay.image).decode('ascii')}"
