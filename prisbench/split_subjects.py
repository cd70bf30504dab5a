"""The subjects of a split as a method gets them, each read when somebody asks for it.

A process that answers a share of a run learns few of the subjects; the others' photos stay on disk.

Knows: what a method is given of a subject.  Does not know: methods, runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import overload

from prisbench.datasets.load import Dataset
from prisbench.datasets.records import subject_row
from prisbench.deaf import deaf_subjects
from prisbench.errors import UnknownNameError, UsageError
from prisbench.results import REFERENCES
from prisbench.types import Subject


class SplitSubjects(Sequence[Subject]):
    """The subjects in the dataset's order.  Ids are known at once; what was read stays in memory.

    Where masks are given, or an input is kept from the method that another subject's takes the place of, all are read
    by the first who asks: whether each has a mask, and whose photos it gets, follows from all.
    """

    def __init__(self, dataset: Dataset, split: str, reference: str, deaf: str | None = None) -> None:
        """Raises as ``given`` for the reference setting, UnknownNameError for the split."""
        if reference not in REFERENCES:
            raise UnknownNameError("reference setting", reference, REFERENCES)
        self._dataset, self._reference, self._deaf = dataset, reference, deaf
        self._places = {place.keys[0]: place for place in dataset.places("subjects", split, ("id",))}
        self._read: dict[str, Subject] = {}
        if reference != REFERENCES[0]:
            self._need(self.ids)

    @property
    def ids(self) -> list[str]:
        return list(self._places)

    def of(self, ids: Collection[str]) -> dict[str, Subject]:
        """The subjects of these ids, read together.  Raises DataError at a damaged row, UsageError as ``given``."""
        self._need(ids)
        return {id: self._read[id] for id in ids}

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Subject]:
        return iter(self.of(self.ids).values())

    @overload
    def __getitem__(self, place: int) -> Subject: ...
    @overload
    def __getitem__(self, place: slice) -> list[Subject]: ...
    def __getitem__(self, place: int | slice) -> Subject | list[Subject]:
        if isinstance(place, slice):
            return list(self.of(self.ids[place]).values())
        id = self.ids[place]
        return self.of([id])[id]

    def _need(self, ids: Collection[str]) -> None:
        together = self._deaf == "subject" or self._reference != REFERENCES[0]
        wanted = set(self.ids if together else ids) - self._read.keys()
        places = [place for id, place in self._places.items() if id in wanted]
        found = []
        for place, record in self._dataset.records_at("subjects", places):
            row = subject_row(record, place.path)
            found.append(Subject(row.id, row.noun, row.photos, row.masks))
        shown = deaf_subjects(given(found, self._reference), self._deaf) if found else []
        self._read |= {subject.id: subject for subject in shown}


def given(subjects: Sequence[Subject], reference: str) -> list[Subject]:
    """The subjects as a method gets them: without the photos' masks, or with them.

    Raises UnknownNameError for another reference setting, UsageError where masks are wanted and none are known.
    """
    if reference not in REFERENCES:
        raise UnknownNameError("reference setting", reference, REFERENCES)
    if reference == REFERENCES[0]:
        return [replace(subject, masks=()) for subject in subjects]
    lacking = [subject.id for subject in subjects if not any(mask is not None for mask in subject.masks)]
    if lacking:
        raise UsageError(
            f"--reference {reference}: {len(lacking)} of {len(subjects)} subjects have no mask of any photo, first "
            f"{lacking[0]!r}; use --reference {REFERENCES[0]}"
        )
    return list(subjects)
