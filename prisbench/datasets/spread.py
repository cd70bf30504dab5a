"""Which part of a set a partial run takes: so many queries or subjects, spread over what they differ in.

A choice depends on ids alone, not on the order of rows, and a larger one holds every smaller one.

Knows: ids, class words, query types with their grades.  Does not know: images, files, methods.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from prisbench.subsets import NAMED


class QueryTraits(NamedTuple):
    """What the choice of a query goes by; ``kind`` is its subset (``subsets.NAMED``): its type, a look-alike's with
    the grade.
    """

    id: str
    subject_id: str
    noun: str
    kind: str


def spread_subjects(subjects: Sequence[tuple[str, str]]) -> list[str]:
    """The ids of (id, noun) pairs in the order in which a part takes them: the nouns take turns."""
    of_noun: dict[str, list[str]] = defaultdict(list)
    for subject, noun in dict.fromkeys(subjects):
        of_noun[noun].append(subject)
    queues = [sorted(of_noun[noun], key=_lot) for noun in sorted(of_noun, key=_lot)]
    longest = max(map(len, queues), default=0)
    return list(dict.fromkeys(queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)))


def spread_queries(queries: Sequence[QueryTraits], limit: int) -> list[int]:
    """The indices of ``limit`` queries, or of all where there are fewer; rising.

    Subjects take turns (``spread_subjects``), a query each.  A subject gives the kind that it gave least often, of
    these the one that all gave least often, of these one of the type that all gave least often, of these the one that
    the fewest subjects have.
    """
    waiting: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i in sorted(range(len(queries)), key=lambda i: queries[i].id, reverse=True):
        waiting[queries[i].subject_id][queries[i].kind].append(i)
    order = spread_subjects([(query.subject_id, query.noun) for query in queries])
    have = Counter(kind for kinds in waiting.values() for kind in kinds)
    rank = {kind: n for n, kind in enumerate((*NAMED, *sorted(set(have) - set(NAMED))))}
    given: dict[str, Counter[str]] = defaultdict(Counter)
    total: Counter[str] = Counter()
    of_type: Counter[str] = Counter()
    chosen: list[int] = []
    while len(chosen) < min(limit, len(queries)):
        for subject in order:
            own, left = given[subject], [kind for kind, rows in waiting[subject].items() if rows]
            if not left or len(chosen) == limit:
                continue
            kind = min(left, key=lambda k: (own[k], total[k], of_type[_type(k)], have[k], rank[k]))
            chosen.append(waiting[subject][kind].pop())
            for counter, one in ((own, kind), (total, kind), (of_type, _type(kind))):
                counter[one] += 1
    return sorted(chosen)


def _type(kind: str) -> str:
    return kind.partition(":")[0]


def _lot(text: str) -> str:
    """An order that no name decides."""
    return hashlib.sha256(text.encode()).hexdigest()
