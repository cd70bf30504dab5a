"""What a build decided and left out, as a part of the README.md of the dataset that it wrote.

Knows: the lines that ``Source.warnings``, ``remarks`` and ``left_out`` become.  Does not know: cards, rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BLOCK = "build"
"""The part stands between ``<!-- build -->`` and ``<!-- /build -->``, which other texts of the card leave alone."""


def build_notes(warnings: Sequence[str], left_out: Mapping[str, int], remarks: Sequence[str] = ()) -> str:
    """Markdown with its heading and markers; empty when there is nothing to say."""
    if not warnings and not left_out and not remarks:
        return ""
    lines = [f"- Warning: {_clean(line)}" for line in warnings]
    lines += [f"- Note: {_clean(line)}" for line in remarks]
    lines += [f"- Left out: {n} ({_clean(reason)})" for reason, n in sorted(left_out.items())]
    return "\n".join(["", f"## {BLOCK.capitalize()}", "", f"<!-- {BLOCK} -->", *lines, f"<!-- /{BLOCK} -->", ""])


def _clean(text: str) -> str:
    """One line in which no marker of the card can stand, whatever name it quotes."""
    return " ".join(text.replace("<!--", "< !--").split())
