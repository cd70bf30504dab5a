"""Widths of templates, letters and colours; and a figure as the same bytes whenever it is drawn.

Knows: matplotlib, which is imported when something is drawn.  Does not know: what a figure shows.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from prisbench.errors import MissingExtraError, UnknownNameError
from prisbench.runtime.files import write_bytes

FORMATS = ("pdf", "svg", "png")

DPI = 300
"""Of PNG, and of pictures inside of PDF and SVG."""

COLOURS = ("#0b62a8", "#b84900", "#00765a", "#a2427c", "#8a6100")
"""Of the methods that stand out, Okabe and Ito's hues, dark enough for lines; each has a mark of its own, too."""

MARKS = ("o", "s", "^", "D", "v")

INK, SOFT, LINE, BAND = "#15181c", "#59626d", "#d5d9de", "#f2f4f6"

HIT, EXTRA, MISSED = (0, 114, 178), (213, 94, 0), (240, 228, 66)
"""On the referent, beside it, left out; told apart by the colour-blind (Okabe and Ito 2008)."""


class Template(NamedTuple):
    """Widths in inches: of a column, and of the whole text; ``size`` of letters in points, as captions have."""

    column: float
    text: float
    size: float


TEMPLATES = {
    "cvpr": Template(3.25, 6.875, 7.5),
    "neurips": Template(5.5, 5.5, 8.0),
    "iclr": Template(5.5, 5.5, 8.0),
    "icml": Template(3.25, 6.75, 7.5),
    "eccv": Template(4.8, 4.8, 7.5),
    "acl": Template(3.03, 6.3, 7.5),
    "ieee": Template(3.5, 7.16, 7.5),
    "slides": Template(5.0, 10.0, 12.0),
}
"""From the templates' own text widths: CVPR, ICCV and WACV share theirs, ECCV has that of LNCS (12.2 cm)."""


def template(name: str) -> Template:
    """The template of a name.  Raises UnknownNameError."""
    if name not in TEMPLATES:
        raise UnknownNameError("template", name, TEMPLATES)
    return TEMPLATES[name]


def check_formats(formats: tuple[str, ...]) -> None:
    """Raises UnknownNameError for one that is none of ``FORMATS``."""
    for each in formats:
        if each not in FORMATS:
            raise UnknownNameError("format", each, FORMATS)


def check_matplotlib() -> None:
    """Raises MissingExtraError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError("matplotlib", "plot", "drawing figures") from None


@contextlib.contextmanager
def drawing(size_wh: tuple[float, float], letters: float) -> Iterator[Any]:
    """An empty figure of so many inches, in this project's style; whoever called before keeps their own."""
    check_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    style = {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
        "font.size": letters,
        "axes.labelsize": letters,
        "xtick.labelsize": letters - 1,
        "ytick.labelsize": letters - 1,
        "legend.fontsize": letters - 1,
        "axes.edgecolor": SOFT,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "grid.color": LINE,
        "grid.linewidth": 0.5,
        "legend.frameon": False,
        "pdf.fonttype": 42,  # letters stay letters, as conferences want
        "svg.fonttype": "path",
        "svg.hashsalt": "prisbench",
        "figure.facecolor": "white",
    }
    with matplotlib.rc_context(style):
        yield Figure(figsize=size_wh, layout="constrained")


def save(figure: Any, folder: Path, name: str, formats: tuple[str, ...]) -> list[Path]:
    """The figure in each format; without dates, so the same numbers give the same bytes.  Raises WriteError."""
    undated = {"pdf": {"CreationDate": None, "ModDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
    paths = []
    for format in formats:
        out = io.BytesIO()
        figure.savefig(out, format=format, dpi=DPI, metadata=undated[format])
        paths.append(write_bytes(folder / f"{name}.{format}", out.getvalue()))
    return paths
