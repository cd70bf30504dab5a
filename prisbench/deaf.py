"""Controls of an input: any method, with one of its inputs taken away.  What a method loses is what the input is worth.

    relation    texts without what they say of place (``phrases.parse``)
    subject     another subject's photos, under the subject's own noun and texts

The method itself is not changed and not told.  So a difference is the input's, whatever the method is.

Knows: subjects, queries.  Does not know: any method, truth, runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from prisbench.errors import UnknownNameError, UsageError
from prisbench.phrases import parse
from prisbench.types import Query, Subject

DEAF = ("relation", "subject")


def check_deaf(to: str | None) -> None:
    """Raises UnknownNameError for an input that cannot be taken away; None takes none away."""
    if to is not None and to not in DEAF:
        raise UnknownNameError("input to be deaf to", to, DEAF)


def deaf_name(method: str, to: str | None) -> str:
    """What a method without an input is called: ``attn-deaf-to-relation``."""
    return method if to is None else f"{method}-deaf-to-{to}"


def deaf_queries(queries: Sequence[Query], to: str | None) -> list[Query]:
    """The queries as the method hears them; ids stay."""
    if to != "relation":
        return list(queries)
    return [dataclasses.replace(query, text=parse(query.text).rest) for query in queries]


def deaf_subjects(subjects: Sequence[Subject], to: str | None) -> list[Subject]:
    """The subjects as the method sees them; ids and nouns stay.  Raises UsageError as ``other_subject``."""
    if to != "subject":
        return list(subjects)
    others = [other_subject(subject, subjects) for subject in subjects]
    return [
        dataclasses.replace(subject, photos=other.photos, masks=other.masks)
        for subject, other in zip(subjects, others, strict=True)
    ]


def other_subject(subject: Subject, subjects: Sequence[Subject]) -> Subject:
    """Who stands in for a subject: the next one by id, of the same noun where there is one.

    So every subject lends itself to one other of its noun.  Raises UsageError where there is no other subject.
    """
    others = sorted((each for each in subjects if each.id != subject.id), key=lambda each: each.id)
    alike = [each for each in others if each.noun == subject.noun] or others
    if not alike:
        raise UsageError(f"another-subject needs a second subject beside {subject.id!r}; evaluate it on a dataset")
    return next((each for each in alike if each.id > subject.id), alike[0])
