"""What is kept of rows once they are written: enough for the rules that hold between rows and for the manifest.

Knows: ids, digests, counts.  Does not know: pixels, files, Parquet.

A query leaves about 150 bytes in memory: 32 of digest, and its id and its scene's as one number each.  The notes that
``new_notes`` gives bring all of it back in another process.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from prisbench.datasets.manifest import Manifest
from prisbench.datasets.schema import SCHEMA_VERSION, SPLITS, QueryRow, SubjectRow, digest_rows
from prisbench.errors import DataError
from prisbench.images.photos import image_id
from prisbench.types import QUERY_TYPES, REFERENTLESS

_DIGEST_BYTES = 32


class _Subject(NamedTuple):
    """What is kept of a subject."""

    id: str
    noun: str
    split: str
    licence: str
    digest: str
    photos: list[str]


class _Query(NamedTuple):
    """What is kept of a query, before it is packed."""

    id: str
    image_id: str
    split: str
    query_type: str
    licence: str
    digest: str
    subject_id: str = ""
    pair_id: str = ""


class _Member(NamedTuple):
    """One query of a pair."""

    query_id: str
    subject_id: str
    image_id: str
    split: str
    referentless: bool


class SeenRows:
    """What has been seen of a dataset so far."""

    def __init__(self) -> None:
        self.licences: set[str] = set()
        self._subjects: dict[str, _Subject] = {}
        self._photo_of: dict[int, str] = {}
        self._queries: set[int] = set()
        self._image_split: dict[int, str] = {}
        self._types: Counter[tuple[str, str]] = Counter()
        self._pairs: dict[str, list[_Member]] = {}
        self._digests = bytearray()
        self._fresh: list[str] = []

    def add_subject(self, row: SubjectRow) -> None:
        """Raises DataError, naming the subject, when it has been seen."""
        if row.id in self._subjects:
            raise DataError(f"subject {row.id} comes twice: the same noun and photos")
        photos = [image_id(photo) for photo in row.photos]
        self._note(_Subject(row.id, row.noun, row.split, row.licence, row.digest, photos))

    def add_query(self, row: QueryRow) -> None:
        """Raises DataError, naming the query, when it has been seen or does not fit what has."""
        subject = self._subjects.get(row.subject_id)
        if subject is None:
            raise DataError(
                f"query {row.id} ({row.text!r}) is about the subject {row.subject_id!r}, which is not there"
            )
        if (row.noun, row.split) != (subject.noun, subject.split):
            raise DataError(
                f"query {row.id} is a {row.noun!r} in {row.split!r}, its subject {row.subject_id} a {subject.noun!r} "
                f"in {subject.split!r}; they must agree"
            )
        if int(row.id, 16) in self._queries:
            raise DataError(f"query {row.id} ({row.text!r}) comes twice: the same subject, scene and text")
        scene = int(row.image_id, 16)
        if scene in self._photo_of:
            raise DataError(
                f"scene {row.image_id} is a reference photo of the subject {self._photo_of[scene]} ({row.source}); "
                "remove one of the two"
            )
        if self._image_split.get(scene, row.split) != row.split:
            raise DataError(f"scene {row.image_id} is in both splits; a scene may be in one only")
        query = _Query(row.id, row.image_id, row.split, row.query_type, row.licence, row.digest)
        if row.pair_id is not None:
            query = query._replace(subject_id=row.subject_id, pair_id=row.pair_id)
            _check_pair([*self._pairs.get(row.pair_id, []), _member(query)], row.pair_id)
        self._note(query)

    def new_notes(self) -> bytes:
        """What has been added since the last call, a line of JSON a row."""
        lines = "".join(f"{line}\n" for line in self._fresh)
        self._fresh = []
        return lines.encode("ascii")

    def read_note(self, line: bytes) -> None:
        """Add a line that ``new_notes`` gave.  Raises ValueError, KeyError or TypeError when it is something else."""
        fields = json.loads(line)
        self._note(_Subject(**fields) if "photos" in fields else _Query(**fields))
        self._fresh = []

    def manifest(self, name: str, version: str, seed: int | None, files: dict[str, str]) -> Manifest:
        """Raises DataError when there are no subjects or no queries, and for a pair with one member."""
        for kind, seen in (("subjects", self._subjects), ("queries", self._queries)):
            if not seen:
                raise DataError(f"the dataset {name}-v{version} would have no {kind}")
        for pair, (first, *others) in self._pairs.items():
            if not others:
                raise DataError(f"query {first.query_id} has no partner: no other has the pair_id {pair!r}")
        subjects = Counter(subject.split for subject in self._subjects.values())
        images = Counter(self._image_split.values())
        queries = {
            split: {kind: n for kind in QUERY_TYPES if (n := self._types[split, kind])}
            for split in SPLITS
            if any((split, kind) in self._types for kind in QUERY_TYPES)
        }
        return Manifest(
            name=name,
            version=version,
            schema_version=SCHEMA_VERSION,
            seed=seed,
            subjects={split: subjects[split] for split in SPLITS if subjects[split]},
            queries=queries,
            images={split: images[split] for split in SPLITS if images[split]},
            digest=digest_rows((subject.digest for subject in self._subjects.values()), self._query_digests()),
            files=files,
        )

    def _note(self, row: _Subject | _Query) -> None:
        self.licences.add(row.licence)
        if isinstance(row, _Subject):
            self._subjects[row.id] = row
            self._photo_of.update((int(photo, 16), row.id) for photo in row.photos)
        else:
            self._queries.add(int(row.id, 16))
            self._image_split[int(row.image_id, 16)] = sys.intern(row.split)
            self._types[row.split, row.query_type] += 1
            if row.pair_id:
                self._pairs.setdefault(row.pair_id, []).append(_member(row))
            self._digests += bytes.fromhex(row.digest)
        self._fresh.append(json.dumps({name: value for name, value in row._asdict().items() if value != ""}))

    def _query_digests(self) -> Iterator[str]:
        for start in range(0, len(self._digests), _DIGEST_BYTES):
            yield self._digests[start : start + _DIGEST_BYTES].hex()


def _member(query: _Query) -> _Member:
    return _Member(query.id, query.subject_id, query.image_id, query.split, query.query_type in REFERENTLESS)


def _check_pair(members: Sequence[_Member], pair_id: str) -> None:
    """Raises DataError unless the queries could be one pair: two at most, of one subject in one scene, and at least one
    of them with a referent.
    """
    first, latest = members[0], members[-1]
    where = f"query {latest.query_id} with the pair_id {pair_id!r}"
    if len(members) > 2:
        raise DataError(f"{where} is a third member; a pair has two")
    if (first.subject_id, first.image_id, first.split) != (latest.subject_id, latest.image_id, latest.split):
        raise DataError(f"{where} is about another subject or scene than its partner {first.query_id}")
    if len(members) == 2 and first.referentless and latest.referentless:
        raise DataError(f"{where} and its partner {first.query_id} both mean nothing in the scene")
