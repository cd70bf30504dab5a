"""What a check of a dataset found, and how it is told: a table for people, JSON, annotations of a GitHub workflow.

Knows: levels, codes, formats, exit codes.  Does not know: how anything is found (``validate``).

Exit codes, like those of a compiler: 0 no errors (there may be warnings), 1 errors, 2 nothing there that could be
examined.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from prisbench.datasets.checks.leaks import Audit
from prisbench.errors import UnknownNameError

ERROR, WARNING, NOTE = "error", "warning", "note"

FORMATS = ("rich", "json", "github")

CODES: Mapping[str, tuple[str, str, str]] = {
    "not-a-dataset": (ERROR, "nothing here can be examined", "make one with `prisbench build-dataset`"),
    "manifest": (ERROR, "dataset.json is missing or damaged", "rebuild the dataset, or copy that file again"),
    "file-missing": (ERROR, "a file of the manifest is not there", "copy the dataset again or rebuild it"),
    "file-stray": (ERROR, "a Parquet file is not in the manifest", "remove it, or rebuild the dataset with it"),
    "checksum": (ERROR, "a file has changed since it was written", "copy it again or rebuild the dataset"),
    "parquet": (ERROR, "a file, or a part of it, cannot be read", "copy it again or rebuild the dataset"),
    "columns": (ERROR, "a table has not its columns", "rebuild the dataset"),
    "null": (ERROR, "a value is missing", "rebuild the dataset from rows that have it"),
    "image": (ERROR, "a picture cannot be decoded", "replace it by a photo that opens, and rebuild"),
    "encoding": (ERROR, "run lengths are malformed", "rebuild the dataset from the masks"),
    "mask-size": (ERROR, "a mask has not its picture's size", "rebuild the dataset from masks of the picture's size"),
    "rule": (ERROR, "a row breaks a rule of its table", "mend the row in its source and rebuild (docs/dataset.md)"),
    "derived": (ERROR, "columns that follow from others say otherwise", "rebuild the dataset; never edit its files"),
    "between-rows": (ERROR, "a row does not fit the others", "mend it in its source and rebuild (docs/dataset.md)"),
    "counts": (ERROR, "the manifest counts other rows than there are", "rebuild the dataset"),
    "digest": (ERROR, "the content is not what the manifest says", "rebuild the dataset"),
    "unreadable": (ERROR, "a row cannot be examined", "rebuild the dataset"),
    "leak": (ERROR, "learning sees what is asked, or a split sees another", "leave one of the two out and rebuild"),
    "copy": (WARNING, "two pictures of one split are copies", "leave one of the two out: it teaches nothing new"),
    "shared": (WARNING, "a picture is in the other set too", "do not learn on one of the sets and test on the other"),
    "alike": (WARNING, "two pictures are embedded alike", "look at both; leave one out if they are copies"),
    "mask-tiny": (WARNING, "a mask is nearly empty", "look at it; leave the query out if nothing can be seen"),
    "mask-overlap": (WARNING, "two things are seen at one place", "keep the visible parts apart"),
    "unused": (WARNING, "nothing is asked about a subject", "add queries or leave the subject out"),
    "balance": (WARNING, "the queries are lopsided", "say so in the card, or sample evenly"),
    "card": (WARNING, "README.md does not tell `datasets` which files are which", "run `prisbench card` or rebuild"),
    "photo-small": (WARNING, "a photo is too small to learn from", "use a larger one"),
    "incomplete": (NOTE, "something was not compared or checked", "mend the rest and run again"),
}
"""Code -> level, what it means, how it is mended."""

MOST_EACH = 20
"""Findings that are kept of each code; all are counted."""


@dataclass(frozen=True)
class Finding:
    """``file`` is a path inside the folder, "" for the whole; ``record`` a row or picture in it, or ""."""

    level: str
    code: str
    file: str
    record: str
    message: str
    cure: str


@dataclass(frozen=True)
class Report:
    """``kind``: "dataset", "photos", or "nothing" when there was nothing to examine.  ``counts``: what was examined.
    ``found``: code -> findings, of which ``findings`` has the first ``MOST_EACH`` of each.  ``audit``: None when it was
    left out."""

    path: str
    kind: str
    id: str | None
    digest: str | None
    counts: Mapping[str, int]
    found: Mapping[str, int]
    findings: tuple[Finding, ...]
    audit: Audit | None = None

    def level_count(self, level: str) -> int:
        """All findings of a level, also those that are not kept."""
        return sum(n for code, n in self.found.items() if CODES[code][0] == level)


@dataclass
class Findings:
    """Findings so far."""

    found: Counter[str] = field(default_factory=Counter)
    kept: list[Finding] = field(default_factory=list)

    def add(self, code: str, message: str, file: str = "", record: str = "", cure: str = "") -> None:
        level, _, usual_cure = CODES[code]
        self.found[code] += 1
        if self.found[code] <= MOST_EACH:
            words = (_clean(text) for text in (file, record, message, cure or usual_cure))
            self.kept.append(Finding(level, code, *words))

    def ordered(self) -> tuple[Finding, ...]:
        place = {code: n for n, code in enumerate(CODES)}
        level = {name: n for n, name in enumerate((ERROR, WARNING, NOTE))}
        return tuple(sorted(self.kept, key=lambda one: (level[one.level], place[one.code])))


def exit_code(report: Report) -> int:
    """0 no errors, 1 errors, 2 nothing that could be examined."""
    return 2 if report.kind == "nothing" else int(report.level_count(ERROR) > 0)


def render(report: Report, format: str = "rich", colour: bool = False, width: int = 120) -> str:
    """The report as a table for people, as one JSON object, or as annotations of a GitHub workflow.

    Raises UnknownNameError for another format.
    """
    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    if format == "json":
        return json.dumps(as_json(report), allow_nan=False, ensure_ascii=False, indent=2, sort_keys=True)
    if format == "github":
        return "\n".join([*(_annotation(report, one) for one in report.findings), *_more(report), summary(report)])
    return _table(report, colour, width)


def as_json(report: Report) -> dict[str, Any]:
    """A record that fits JSON."""
    audited = report.audit
    return {
        "path": report.path,
        "kind": report.kind,
        "id": report.id,
        "digest": report.digest,
        "exit_code": exit_code(report),
        "counts": dict(report.counts),
        "found": dict(report.found),
        "findings": [asdict(one) for one in report.findings],
        "audit": None if audited is None else {**audited._asdict(), "found": dict(audited.found), "leaks": None},
    }


def summary(report: Report) -> str:
    """One line: what it is, what was examined, how many findings."""
    what = f"{report.id or report.kind} in {report.path}" if report.kind != "nothing" else report.path
    counts = ", ".join(f"{n} {name}" for name, n in report.counts.items())
    levels = ", ".join(
        f"{n} {level}{'' if n == 1 else 's'}" for level in (ERROR, WARNING, NOTE) if (n := report.level_count(level))
    )
    audited = report.audit
    looked = f"; leaks sought among {audited.references} photos and {audited.scenes} scenes" if audited else ""
    return f"{what}: {counts + '; ' if counts else ''}{levels or 'all well'}{looked}"


def _more(report: Report) -> list[str]:
    return [
        f"{code}: {n - MOST_EACH} more of {n} ({CODES[code][1]})" for code, n in report.found.items() if n > MOST_EACH
    ]


def _annotation(report: Report, one: Finding) -> str:
    """``::error file=...,title=...::message`` (GitHub Docs, "Workflow commands"), with what it wants escaped."""
    command = {ERROR: "error", WARNING: "warning", NOTE: "notice"}[one.level]
    place = f"{report.path.rstrip('/')}/{one.file}" if one.file else report.path
    message = f"{one.record + ': ' if one.record else ''}{one.message}; {one.cure}"
    message = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{command} file={_property(place)},title={_property(one.code)}::{message}"


def _property(text: str) -> str:
    for mark, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")):
        text = text.replace(mark, code)
    return text


def _table(report: Report, colour: bool, width: int) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, highlight=False, no_color=not colour)
    if report.findings:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("level", "code", "where", "what"):
            table.add_column(name, overflow="fold", no_wrap=name in ("level", "code"))
        style = {ERROR: "red", WARNING: "yellow", NOTE: "dim"}
        for one in report.findings:
            where = ": ".join(part for part in (one.file, one.record) if part)
            words = (one.level, one.code, where, f"{one.message}; {one.cure}")
            table.add_row(*(Text(word, style=style[one.level] * (n < 2)) for n, word in enumerate(words)))
        console.print(table)
        for line in _more(report):
            console.print(Text(line), soft_wrap=True)
        console.print()
    console.print(Text(summary(report)), soft_wrap=True)
    return out.getvalue().rstrip("\n")


def _clean(text: str) -> str:
    """One printable line of 600 characters at most, whatever a file holds."""
    line = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
    return line if len(line) <= 600 else f"{line[:597]}..."
