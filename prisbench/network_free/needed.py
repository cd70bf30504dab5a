"""Which input a kind of queries needs, and by how much: what the reader loses when it is taken away.

Knows: the audit's rows.  Does not know: datasets, predictors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prisbench.network_free.audit import TEXT_ALONE, Row

READER = "reader"


def markdown(rows: Sequence[Row]) -> str:
    """A table a reference setting: the share of referents that are the right instance, true outlines given.

    Its columns are the reader's share, what it loses without the relation and with another subject's photos, and the
    share of the text alone.  Kinds whose texts have no referent are left out.
    """
    lines: list[str] = []
    for reference in dict.fromkeys(row.reference for row in rows):
        some = [row for row in rows if (row.reference, row.regions) == (reference, "outlines")]
        lines += [*_table(some, reference), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(rows: Sequence[Row], reference: str) -> Iterator[str]:
    by = {(row.predictor, row.deaf, row.scope): row.right for row in rows}
    yield f"| {reference} | queries | reader | without the relation | without the subject | text alone |"
    yield "| :--- | ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        if (row.predictor, row.deaf) == (READER, None) and row.right is not None:
            lost = [_lost(row.right, by.get((READER, deaf, row.scope))) for deaf in ("relation", "subject")]
            alone = by.get((TEXT_ALONE, None, row.scope))
            cells = [f"{row.right:.2f}", *lost, "" if alone is None else f"{alone:.2f}"]
            yield f"| {row.scope} | {row.n} | {' | '.join(cells)} |"


def _lost(whole: float, less: float | None) -> str:
    return "" if less is None else f"{less - whole:+.2f}"
