"""``learn-concept``: several subjects, learners and seeds -> concepts, each in its folder and on its sheet.

Everything that will be written is tried out before anything is learned.  What was learned is kept in the store; where
that cannot be written, beside ``--out`` until the concept is there.

Knows: which folder is whose.  Does not know: how a concept is learned, options of the command line.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prisbench.concepts.store import default_store, renamed, write_concept
from prisbench.errors import WriteError
from prisbench.images import drawing
from prisbench.localizer.method import AttentionMethod
from prisbench.localizer.presence import TUNED
from prisbench.localizer.sheet import sheet as draw_sheet
from prisbench.out_of_domain import Strangeness, in_domain, look, warning
from prisbench.runtime.files import check_new_folder, check_writable, write_bytes
from prisbench.settings import MethodOptions
from prisbench.types import Subject

Bar = Callable[[str], Callable[[int, int, float], None]]
"""A title -> a progress bar that is called with ``(step, steps, loss)``."""


@dataclass(frozen=True)
class ConceptJob:
    """One concept to learn.  ``out`` is its folder and ``sheet`` its picture, None where none is wanted; ``named`` is a
    second folder, that of its name in the store.
    """

    options: MethodOptions
    subject: Subject
    out: Path | None
    sheet: Path | None
    named: Path | None = None


def plan(
    wanted: Sequence[MethodOptions],
    subjects: Sequence[Subject],
    out: Path | None,
    sheet: Path | None,
    named: Path | None = None,
) -> list[ConceptJob]:
    """Every subject with each of the options.  Below ``out`` and ``named`` a folder is called by what there are several
    of.

    Raises WriteError when a folder or a sheet could not be written.
    """
    learners, seeds = {str(each.concept) for each in wanted}, {each.seed for each in wanted}
    jobs = []
    for options, subject in itertools.product(wanted, subjects):
        several = [str(options.concept)] if len(learners) > 1 else []
        several += [f"seed-{options.seed}"] if len(seeds) > 1 else []
        parts = [subject.id, *several] if len(subjects) > 1 else several
        name = "--".join([subject.id, *several])
        folder, second = (home and home.joinpath(*parts) for home in (out, named))
        jobs.append(ConceptJob(options, subject, folder, sheet and sheet / f"{name}.png", second))
    for job in jobs:
        for folder in (job.out, job.named):
            if folder is not None:
                check_new_folder(folder, overwrite=True, marker="concept.json")
        if job.sheet is not None and job.sheet.is_dir():
            raise WriteError(f"cannot write {job.sheet}: a folder has that name")
    if sheet is not None:
        check_writable(sheet)
    return jobs


def carry_out(
    jobs: Sequence[ConceptJob], spare: Path | None, say: Callable[[str], None], bar: Bar
) -> list[dict[str, Any]]:
    """Learn the concepts; one record each, as plain JSON values.  The backbone is loaded once.

    ``spare`` is where concepts and checkpoints are kept meanwhile, when the store cannot be written.
    Raises as ``AttentionMethod.make`` and ``learn``; WriteError says where the concept is kept that could not be
    written.
    """
    records: list[dict[str, Any]] = []
    seen: dict[str, list[Strangeness | None]] = {}
    method: AttentionMethod | None = None
    for options, group in itertools.groupby(jobs, key=lambda job: job.options):
        method = AttentionMethod.make(options, method.backbone if method else None)
        method.say, method.spare = say, spare
        if not seen:
            seen = {job.subject.id: [look(method, photo) for photo in job.subject.photos] for job in jobs}
            if line := warning([each for photos in seen.values() for each in photos], "photo"):
                say(line)
        for job in group:
            method.progress = bar(job.subject.id)
            records.append(_learn(method, job) | {"in_domain": [in_domain(each) for each in seen[job.subject.id]]})
        if method.backbone.family not in TUNED or method.presence().threshold is None:
            say(method.presence().line)
    if spare is not None:
        _forget(spare, [record["concept"] for record in records])
    return records


def _learn(method: AttentionMethod, job: ConceptJob) -> dict[str, Any]:
    before = method.known(job.subject)
    if before is not None:
        method.say(f"{job.subject.id} is known already: same photos, noun and settings; taken from {before}")
    concept = method.learn(job.subject)
    kept = method.kept(concept.id)
    named = job.named or (job.out if job.out is not None and job.out.parent == default_store() else None)
    if named is not None and named.parent == default_store() and (line := renamed(named, concept.id)):
        method.say(line)
    with _kept_in(kept):
        folder = kept if job.out is None else write_concept(concept, job.out)
        if job.named is not None:
            write_concept(concept, job.named)
    if job.sheet is not None:
        drawn = draw_sheet(method.backbone, concept, job.subject.photos, method.localizer)
        with _kept_in(folder):
            write_bytes(job.sheet, drawing.png(drawn))
    return {
        "subject": job.subject.id,
        "concept": concept.id,
        "folder": str(folder),
        "named": None if named is None else str(named.relative_to(default_store())),
        "learner": concept.learner,
        "seed": job.options.seed,
        "known": before is not None,
        "presence_threshold": method.presence(concept).threshold,
    }


@contextlib.contextmanager
def _kept_in(folder: Path | None) -> Iterator[None]:
    """A WriteError in the block says where the concept is."""
    try:
        yield
    except WriteError as error:
        raise WriteError(f"{error}; the concept is kept in {folder}") from error


def _forget(spare: Path, ids: Sequence[str]) -> None:
    """Remove what was kept meanwhile; checkpoints of other concepts stay."""
    for id in ids:
        shutil.rmtree(spare / id, ignore_errors=True)
    with contextlib.suppress(OSError):
        spare.rmdir()
