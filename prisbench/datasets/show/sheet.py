"""The sheet: one image of subjects with their photos and, beside them, their scenes.

Knows: how pictures and texts are laid out in pixels.  Does not know: which queries are shown (``choose``), how outlines
are drawn (``picture``).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from prisbench.datasets.show.choose import Block, ShownQuery, Totals, side_by_side
from prisbench.datasets.show.picture import flat
from prisbench.images.drawing import GREEN, ORANGE, PINK, SKY, VERMILION

TILE, GAP, LINE, HEAD = 220, 10, 16, 68
ACROSS = 5
"""Scenes of a subject in a row."""

COLUMNS = ACROSS + 1
LINES = 3
_NOWHERE = {"absent": "not in this scene", "contradicted": "not as the text says"}
_LEGEND = (
    *((PINK, "the subject", 24), (SKY, "its look-alikes", 5)),
    *((ORANGE, "the same, not meant", 5), (GREEN, "what the text names", 5)),
)
INK, SOFT, BAND, PAPER = (27, 31, 36), (87, 96, 106), (240, 242, 245), (255, 255, 255)


def draw_sheet(blocks: Sequence[Block], totals: Totals, title: str) -> UInt8[np.ndarray, "h w 3"]:
    """A subject's photos and, to the right, its scenes; the next subject beside it when there is room, else below.

    Letters are those of Pillow's own font, which has the Latin ones without accents: accents are dropped, and what is
    of another script becomes boxes.  The page has them all.
    """
    rows = _rows(blocks)
    heights = [_height(row) for row in rows]
    width = max(880, *(sum(_width(piece) + GAP for piece in row) + GAP for row in rows))
    canvas = Image.new("RGB", (width, HEAD + sum(heights) + GAP * len(rows)), PAPER)
    pen = ImageDraw.Draw(canvas)
    _draw_head(pen, blocks, totals, title, width)
    top = HEAD
    for row, height in zip(rows, heights, strict=True):
        left = GAP
        of_pictures = max(cell.picture.height for piece in row for cell in piece if cell)
        for piece in row:
            pen.rounded_rectangle((left, top, left + _width(piece) - 1, top + height - 1), 8, fill=BAND)
            for n, cell in enumerate(piece):
                if cell:
                    _draw_cell(canvas, cell, left + GAP + n * (TILE + GAP), top + GAP, of_pictures)
            left += _width(piece) + GAP
        top += height + GAP
    return np.asarray(canvas)


def counts(blocks: Sequence[Block], totals: Totals) -> str:
    """How much of what there is."""
    return (
        f"{sum(len(block.queries) for block in blocks)} of {totals.queries} queries, "
        f"{len(blocks)} of {totals.subjects} subjects"
    )


def wrap(text: str, size: int, width: int, most: int) -> list[str]:
    """A text in at most ``most`` lines of ``width`` pixels; where it is cut short, an ellipsis ends it."""
    lines = [""]
    words = _plain_letters(text).split(" ")
    while words:
        word = words.pop(0)
        longer = f"{lines[-1]} {word}".strip()
        if _length(longer, size) <= width:
            lines[-1] = longer
        elif len(lines) == most:
            return [*lines[:-1], _cut(longer, size, width)]
        elif lines[-1]:
            lines.append("")
            words.insert(0, word)
        else:  # one word wider than a line
            fits = next(n for n in range(len(word), 0, -1) if n == 1 or _length(word[:n], size) <= width)
            lines[-1:] = [word[:fits], ""]
            words.insert(0, word[fits:])
    return lines


class _Words(NamedTuple):
    """A line of text, dark on the band, or light on a ``ground`` of its own."""

    text: str
    size: int
    colour: tuple[int, int, int] = INK
    ground: tuple[int, int, int] | None = None


class _Cell(NamedTuple):
    """A picture at most one tile in size, and the lines below it."""

    picture: Image.Image
    words: tuple[_Words, ...]


def _rows(blocks: Sequence[Block]) -> list[list[list[_Cell | None]]]:
    """Rows of pieces of cells.  A block's first piece begins with the subject, those that go on below with nothing."""
    rows: list[list[list[_Cell | None]]] = [[]]
    for block in blocks:
        for start, queries in enumerate(_lines(block)):
            scenes = [_scene_cell(query) for query in queries]
            piece: list[_Cell | None] = [None if start else _subject_cell(block), *scenes]
            if rows[-1] and (start or sum(map(len, rows[-1])) + len(piece) > COLUMNS):
                rows.append([])
            rows[-1].append(piece)
    return rows


def _lines(block: Block) -> list[list[ShownQuery]]:
    """A block's queries in lines of at most ``ACROSS``; the two of a pair share a line."""
    lines: list[list[ShownQuery]] = [[]]
    for scene in side_by_side(block.queries):
        if len(lines[-1]) + len(scene) > ACROSS:
            lines.append([])
        lines[-1] += scene
    return lines


def _width(piece: Sequence[_Cell | None]) -> int:
    return len(piece) * (TILE + GAP) + GAP


def _height(row: Sequence[Sequence[_Cell | None]]) -> int:
    cells = [cell for piece in row for cell in piece if cell]
    return (
        max(cell.picture.height for cell in cells) + max(len(cell.words) for cell in cells) * (LINE + 2) + 2 * GAP + 4
    )


def _subject_cell(block: Block) -> _Cell:
    """The photos in a grid, the noun, the id, how many photos there are."""
    n = math.ceil(len(block.photos) ** 0.5)
    side = (TILE - (n - 1) * 4) // n
    photos = [_fitted(flat(photo), side) for photo in block.photos]
    lines = [photos[start : start + n] for start in range(0, len(photos), n)]
    heights = [max(photo.height for photo in line) for line in lines]
    grid = Image.new("RGB", (TILE, sum(heights) + 4 * (len(lines) - 1)), BAND)
    for i, line in enumerate(lines):
        for j, photo in enumerate(line):
            middle = (side - photo.width) // 2, (heights[i] - photo.height) // 2
            grid.paste(photo, (j * (side + 4) + middle[0], sum(heights[:i]) + 4 * i + middle[1]))
    more = f"{block.n_photos} photo{'s' * (block.n_photos > 1)}"
    if block.n_photos > len(block.photos):
        more = f"{len(block.photos)} of {more}"
    return _Cell(grid, (_Words(block.noun, 15), _Words(block.title, 11, SOFT), _Words(more, 11, SOFT)))


def _scene_cell(query: ShownQuery) -> _Cell:
    """The picture, its query type, its text, what stands beside the subject."""
    picture = _fitted(flat(query.picture), TILE)
    label = _Words(query.query_type, 11, PAPER, INK)
    if query.query_type in _NOWHERE:
        ImageDraw.Draw(picture).rectangle((0, 0, picture.width - 1, picture.height - 1), outline=VERMILION, width=3)
        label = _Words(f"{query.query_type}: {_NOWHERE[query.query_type]}", 11, PAPER, VERMILION)
    beside = (
        [_Words(line, 11, SOFT) for line in wrap(query.picture.beside, 11, TILE, 2)] if query.picture.beside else []
    )
    return _Cell(picture, (label, *(_Words(line, 12) for line in wrap(query.text, 12, TILE, LINES)), *beside))


def _fitted(image: UInt8[np.ndarray, "h w 3"], side: int) -> Image.Image:
    """The image with its longer side as given, its proportions kept."""
    h, w = image.shape[:2]
    scale = side / max(h, w)
    how = Image.Resampling.LANCZOS if scale < 2 else Image.Resampling.NEAREST
    return Image.fromarray(image).resize((max(1, round(w * scale)), max(1, round(h * scale))), how)


def _draw_head(pen: ImageDraw.ImageDraw, blocks: Sequence[Block], totals: Totals, title: str, width: int) -> None:
    _draw_words(pen, _Words(title, 20), GAP, 8, width - 2 * GAP)
    said = _Words(counts(blocks, totals), 13, SOFT)
    _draw_words(pen, said, GAP, 42, width)
    x = 2 * GAP + int(_length(said.text, said.size))
    for colour, name, dash in _LEGEND:
        for start in range(0, 24, 9):
            pen.line((x + start, 51, x + min(24, start + dash), 51), fill=colour, width=4)
        _draw_words(pen, _Words(name, 13), x + 30, 42, width)
        x += 40 + int(_length(name, 13))


def _draw_cell(canvas: Image.Image, cell: _Cell, x: int, y: int, of_pictures: int) -> None:
    """The picture in the middle of its space, ``of_pictures`` high, and the lines below."""
    picture = cell.picture
    canvas.paste(picture, (x + (TILE - picture.width) // 2, y + (of_pictures - picture.height) // 2))
    y += of_pictures + 4
    for words in cell.words:
        _draw_words(ImageDraw.Draw(canvas), words, x, y, TILE)
        y += LINE + 2


def _draw_words(pen: ImageDraw.ImageDraw, words: _Words, x: int, y: int, width: int) -> None:
    text = _cut(_plain_letters(words.text), words.size, width)
    if words.ground:
        pen.rounded_rectangle((x, y, x + _length(text, words.size) + 12, y + LINE), 7, fill=words.ground)
        x, y = x + 6, y + 1
    pen.text((x, y), text, fill=words.colour, font=_font(words.size))


def _cut(text: str, size: int, width: int) -> str:
    """The text, or its beginning and an ellipsis when it is wider."""
    if _length(text, size) <= width:
        return text
    while text and _length(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _plain_letters(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _length(text: str, size: int) -> float:
    return float(_font(size).getlength(text))


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)
