"""Read a dataset folder: subjects for the learners, examples for the loop.

Knows: the manifest, which shards there are, how a dataset is verified.
Does not know: what is in a shard (``records``), torch, the ``datasets`` package, methods.
Reads a row group at a time, so memory stays flat however large the dataset is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from prisbench.datasets.manifest import Manifest
from prisbench.datasets.records import query_row, row_group, row_groups, subject_row, whole
from prisbench.datasets.schema import MANIFEST, SPLITS, TABLES, QueryRow, SubjectRow, check_query, check_subject
from prisbench.datasets.seen_rows import SeenRows
from prisbench.datasets.spread import QueryTraits, spread_queries
from prisbench.datasets.subject_names import find_subjects, known_names
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.runtime.files import read_json, sha256_file
from prisbench.subsets import GRADED, check_subset, grade_of, is_within, subset_of
from prisbench.types import Example, Query, Subject


def open_dataset(folder: str | os.PathLike[str], verify: bool = False) -> Dataset:
    """The dataset in a folder that ``write_dataset`` made.

    ``verify`` reads everything: the checksums of the files, the rules of every row and between rows, the columns that
    follow from others, and what the manifest says of the content.

    Raises DataError when the folder, its manifest or a shard is missing, damaged, of another schema version, or not in
    the manifest.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"no dataset at {folder}: there is no such folder; make one with `prisbench build-dataset`")
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} is not a dataset: no {MANIFEST} in it; make one with `prisbench build-dataset`")
    manifest = Manifest.from_json(read_json(folder / MANIFEST), str(folder / MANIFEST))
    for path in manifest.files:
        if not _inside(path):
            raise DataError(f"{folder / MANIFEST} names the file {path!r}, which no dataset has; rebuild the dataset")
        if not (folder / path).is_file():
            raise DataError(f"{folder / path} is missing; copy the dataset again or rebuild it")
    for found in sorted(folder.glob("*/*.parquet")):
        if found.relative_to(folder).as_posix() not in manifest.files:
            raise DataError(f"{found} does not belong to the dataset (not in {MANIFEST}); remove it")
    dataset = Dataset(folder, manifest)
    if verify:
        _verify(dataset)
    return dataset


@dataclass(frozen=True)
class Dataset:
    """A dataset version on disk; nothing but its manifest is in memory."""

    folder: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """Name and version, like ``tabletop-v3``."""
        return self.manifest.id

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def digest(self) -> str:
        """sha256 of the content; two datasets with the same digest have the same queries."""
        return self.manifest.digest

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if split in self.manifest.subjects)

    @property
    def nouns(self) -> tuple[str, ...]:
        """The class words of all subjects, sorted, each once."""
        nouns: set[str] = set()
        for path in self._shards("subjects"):
            for group in row_groups(path, "subjects", ["noun"]):
                nouns.update(group.column("noun").to_pylist())
        return tuple(sorted(nouns))

    def subjects(self, split: str) -> list[Subject]:
        """The subjects of a split, in the dataset's order.  Raises UnknownNameError and DataError."""
        return [Subject(row.id, row.noun, row.photos, row.masks) for row in self.subject_rows(split)]

    def subject_names(self, split: str | None = None) -> dict[str, str]:
        """Id -> the name by which people know the subject, no two of the dataset alike (``subject_names.known_names``);
        of all splits, or of one.

        Raises UnknownNameError and DataError.
        """
        own: dict[str, dict[str, str]] = {}
        for each in dict.fromkeys([*self.splits, *([split] if split else [])]):
            keys = (place.keys for place in self.places("subjects", each, ("id", "name")))
            own[each] = {id: name for id, name in keys}
        names = known_names({id: name for found in own.values() for id, name in found.items()})
        return {id: names[id] for each, found in own.items() if split in (None, each) for id in found}

    def find_subjects(self, said: Collection[str], split: str) -> tuple[str, ...]:
        """The ids of the subjects of a split that names, ids, hashes or their beginnings mean.

        Raises UnknownNameError, UsageError where one may mean several, and DataError.
        """
        return find_subjects(said, self.subject_names(split), f"the {split} split") if said else ()

    def examples(
        self,
        split: str,
        limit: int | None = None,
        subset: str | None = None,
        subjects: Collection[str] = (),
        queries: Collection[str] = (),
        images: Callable[[str], bool] | None = None,
    ) -> Iterator[Example]:
        """The examples of a split, all of one scene together, scenes in the dataset's order.

        ``subset`` keeps one of ``subsets.SUBSETS``, ``subjects`` (see ``find_subjects``) and ``queries`` those that are
        given, if any; of what is left, ``limit`` keeps so many, spread over subjects, query types and grades of
        look-alikes whatever the order of rows (``spread.spread_queries``).  Of those, ``images`` keeps the ones about
        images whose id it holds true of.  Raises, before the first example, UnknownNameError for a split, subset,
        subject or query, UsageError for a limit below 1 and a subject that may be several; DataError at a damaged row.
        """
        scenes: dict[str, list[Place]] = {}
        for place in self._chosen(split, limit, subset, subjects, queries):
            if images is None or images(place.keys[0]):
                scenes.setdefault(place.keys[0], []).append(place)
        places = [place for together in scenes.values() for place in together]
        return (_example(query_row(record, place.path)) for place, record in self.records_at("queries", places))

    def asked(
        self,
        split: str,
        limit: int | None = None,
        subset: str | None = None,
        subjects: Collection[str] = (),
        queries: Collection[str] = (),
    ) -> Iterator[Asked]:
        """The ids of ``examples``, in the order of the files; no image is read.  Raises as that."""
        chosen = self._chosen(split, limit, subset, subjects, queries)
        return (Asked(place.keys[2], place.keys[0], place.keys[3]) for place in chosen)

    def _chosen(
        self,
        split: str,
        limit: int | None,
        subset: str | None,
        subjects: Collection[str],
        queries: Collection[str],
    ) -> Iterator[Place]:
        """Where the queries of ``examples`` are; no image is read."""
        check_subset(subset)
        if limit is not None and limit < 1:
            raise UsageError(f"a limit of {limit} examples leaves nothing; give 1 or more")
        named = {"subject": set(self.find_subjects(subjects, split)), "query": set(queries)}
        kind_of = SUBSET if subset in GRADED or limit is not None else "query_type"
        places = self.places("queries", split, ("image_id", kind_of, "id", "subject_id", "noun"))
        if any(named.values()):
            places = self._named(split, list(places), named)
        places = (place for place in places if is_within(subset, place.keys[1]))
        if limit is None:
            return places
        there = list(places)
        traits = [
            QueryTraits(id, subject, noun, kind) for _, kind, id, subject, noun in (place.keys for place in there)
        ]
        return (there[i] for i in spread_queries(traits, limit))

    def _named(self, split: str, places: list[Place], named: Mapping[str, set[str]]) -> Iterator[Place]:
        """The places of the subjects and queries that are named.  Raises UnknownNameError for one that is not there."""
        at = {"query": 2, "subject": 3}
        for kind, names in named.items():
            known = {place.keys[at[kind]] for place in places}
            for name in sorted(names - known):
                raise UnknownNameError(f"{kind} of the {split} split", name, known)
        return (place for place in places if all(not names or place.keys[at[k]] in names for k, names in named.items()))

    def subject_rows(self, split: str) -> Iterator[SubjectRow]:
        """Subjects with licence, source and files.  Raises UnknownNameError and DataError."""
        return (subject_row(record, path) for path, record in self.records("subjects", split))

    def query_rows(self, split: str) -> Iterator[QueryRow]:
        """Queries with licence, source and file, in the dataset's order.  Raises UnknownNameError and DataError."""
        return (query_row(record, path) for path, record in self.records("queries", split))

    def records(
        self, table: str, split: str, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The rows of a table, or some columns of them, as they are in the files, and the file each is in.

        Raises UnknownNameError for the split; DataError at a damaged file and at a row with a null.
        """
        return (
            (path, whole(record, table, path))
            for path in self._shards(table, split)
            for group in row_groups(path, table, columns)
            for record in group.to_pylist()
        )

    def places(self, table: str, split: str, keys: Sequence[str]) -> Iterator[Place]:
        """Where the rows of a table are; of their content only ``keys`` is read.  The key ``SUBSET`` is the name of
        a query's subset, that of a missing pair "".  Raises as ``records``.
        """
        columns = [column for key in keys for column in (_SUBSET_COLUMNS if key == SUBSET else (key,))]
        for path in self._shards(table, split):
            for number, group in enumerate(row_groups(path, table, columns)):
                for row, record in enumerate(group.to_pylist()):
                    yield Place(path, number, row, tuple(_key(record, key) for key in keys))

    def records_at(self, table: str, places: Iterable[Place]) -> Iterator[tuple[Place, dict[str, Any]]]:
        """The rows at these places, in their order; where neighbours stand together, each group is read once.

        Raises DataError as ``records``.
        """
        # Rows of one scene usually stand together, so two groups in memory are enough.
        group = lru_cache(maxsize=2)(lambda path, number: row_group(path, number).to_pylist())
        for place in places:
            yield place, whole(group(place.path, place.group)[place.row], table, place.path)

    def _shards(self, table: str, split: str | None = None) -> list[Path]:
        if split is not None and split not in self.splits:
            raise UnknownNameError(f"split of {self.id}", split, self.splits)
        start = f"{table}/" if split is None else f"{table}/{split}-"
        return [self.folder / path for path in sorted(self.manifest.files) if path.startswith(start)]


class Asked(NamedTuple):
    """The ids of a query, of its image and of its subject."""

    query_id: str
    image_id: str
    subject_id: str


class Place(NamedTuple):
    """Where a row is, and what a choice goes by."""

    path: Path
    group: int
    row: int
    keys: tuple[str, ...]


SUBSET = "subset"
"""A key of places that is no column (``subsets.subset_of``)."""

_SUBSET_COLUMNS = ("query_type", "things.list.element.role", "things.list.element.grade")
"""What a query's subset follows from; no masks are read."""


def _key(record: Mapping[str, Any], key: str) -> str:
    if key in ("pair_id", "name"):  # older files have no such column
        return str(record.get(key) or "")
    if key != SUBSET:
        return str(record[key])
    things = [thing for thing in record.get("things") or () if thing]
    grade = grade_of(thing["grade"] for thing in things if thing["role"] == "look-alike")
    return subset_of(str(record["query_type"]), grade)


def _inside(path: str) -> bool:
    """Whether a manifest's path is ``<table>/<split>-<number>.parquet``, so that it cannot leave the folder.

    Read as text only: a folder of the Hub's cache is made of links that do point elsewhere.
    """
    parts = PurePosixPath(path).parts
    return (
        len(parts) == 2
        and "\\" not in path
        and parts[0] in TABLES
        and parts[1].startswith(tuple(f"{split}-" for split in SPLITS))
        and parts[1].endswith(".parquet")
    )


def _verify(dataset: Dataset) -> None:
    for name, expected in dataset.manifest.files.items():
        if sha256_file(dataset.folder / name) != expected:
            raise DataError(f"{dataset.folder / name} has changed (another sha256 than in {MANIFEST}); copy it again")
    seen = SeenRows()
    for split in dataset.splits:
        for path, record in dataset.records("subjects", split):
            subject = subject_row(record, path)
            with _at(path):
                check_subject(subject)
                _check_columns(record, {"id": subject.id, "split": split}, f"subject {subject.id}")
                seen.add_subject(subject)
    for split in dataset.splits:
        for path, record in dataset.records("queries", split):
            query = query_row(record, path)
            with _at(path):
                check_query(query)
                _check_columns(record, {**query.derived(), "split": split}, f"query {query.id}")
                seen.add_query(query)
    written = dataset.manifest
    with _at(dataset.folder):
        found = seen.manifest(written.name, written.version, written.seed, dict(written.files))
    if found.digest != written.digest:
        raise DataError(f"{dataset.folder}: the content has another digest than {MANIFEST} says; rebuild the dataset")
    for table in ("subjects", "queries", "images"):
        if getattr(found, table) != getattr(written, table):
            raise DataError(f"{dataset.folder}: {MANIFEST} counts other {table} than there are; rebuild the dataset")


def _check_columns(record: dict[str, Any], expected: dict[str, Any], where: str) -> None:
    for name, value in expected.items():
        if record[name] != value:
            raise DataError(f"{where} is damaged: {name} is {record[name]!r}, not {value!r}; rebuild the dataset")


@contextlib.contextmanager
def _at(path: Path) -> Iterator[None]:
    """Put the file or folder before what a rule says of a row in it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _example(row: QueryRow) -> Example:
    return Example(
        query=Query(row.id, row.subject_id, row.text),
        query_type=row.query_type,
        image_id=row.image_id,
        image=row.image,
        mask=row.mask,
        look_alikes=row.look_alikes,
        things=row.all_things,
        meant=row.meant_thing,
        pair_id=row.pair_id,
    )
