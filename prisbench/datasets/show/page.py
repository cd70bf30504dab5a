"""A look at a dataset: one sheet of pictures (PNG), and one page (HTML) that works from disk and fetches nothing.

Both show the same queries: the photos of a subject and, beside them, scenes with the subject and its look-alikes
outlined.  Knows: which queries to choose, how they are drawn and laid out.  Does not know: whether they are right
(``validate``).

Reads only the rows it shows, so a large dataset is looked at as fast as a small one.  All pictures together are shrunk
to ``PIXELS`` and every text is cut to ``LONGEST`` characters, so the page stays below 30 MB whatever is in the dataset;
forty queries of a usual set make 1 to 3 MB.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.images.drawing import PINK, SKY, VERMILION, png
from prisbench.images.masks import from_rle
from prisbench.images.photos import decode_photo, fit_within
from prisbench.runtime.files import write_bytes, write_text
from prisbench.types import QUERY_TYPES, SLOT

MOST = 400
"""Queries at a time; more than anybody looks at."""

SCENES = 5
"""Of a subject, as long as there are subjects enough: one of each query type where it has them."""

PHOTOS = 9
"""Reference photos of a subject that are shown."""

PIXELS = 16_000_000
"""In all pictures of a page, about.  Of a photo, WebP takes 0.1 to 0.3 bytes a pixel, of pure noise 1.1; outlines take
0.02, of a mask of noise 0.3; a third more in a page."""

LARGEST, SMALLEST = 480, 64
"""Long side of a picture, between: what a sharp screen shows of it, and what can still be recognised."""

LONGEST = 400
"""Characters of a text that are shown."""


class Shown(NamedTuple):
    """What was written."""

    sheet: Path
    page: Path


@dataclass(frozen=True, eq=False)
class Picture:
    """An image and what is outlined in it; ``seen`` says that in words.

    ``overlay`` is as large as the image, red, green, blue and opacity; None when there is nothing to outline.
    """

    image: UInt8[np.ndarray, "h w 3"]
    overlay: UInt8[np.ndarray, "h w 4"] | None
    seen: str


@dataclass(frozen=True, eq=False)
class Asked:
    """A query to show."""

    id: str
    text: str
    query_type: str
    origin: str
    picture: Picture


@dataclass(frozen=True, eq=False)
class Block:
    """A subject to show, with its queries; ``photos`` are the first ``PHOTOS`` of ``n_photos``."""

    id: str
    noun: str
    origin: str
    n_photos: int
    photos: tuple[Picture, ...]
    queries: tuple[Asked, ...]


class Totals(NamedTuple):
    """What could have been shown."""

    queries: int
    subjects: int


def show(
    dataset: Dataset,
    out: str | os.PathLike[str],
    split: str = "test",
    limit: int = 40,
    subset: str | None = None,
    subject: str | None = None,
) -> Shown:
    """Write ``sheet.png`` and ``page.html`` into the folder ``out``.

    ``limit`` queries are chosen, evenly over the subjects and over the query types; ``subset`` keeps one type,
    ``subject`` one subject's id.  The same dataset and choice give the same files.

    Raises UsageError for a limit outside 1..MOST, UnknownNameError for a split, subset or subject, DataError for a
    choice that leaves nothing and for a damaged row, WriteError.
    """
    if not 1 <= limit <= MOST:
        raise UsageError(f"a limit of {limit} queries: give 1 to {MOST}, and choose with --subset or --subject")
    if subset is not None and subset not in QUERY_TYPES:
        raise UnknownNameError("subset", subset, QUERY_TYPES)
    if split not in dataset.splits:
        raise UnknownNameError(f"split of {dataset.id}", split, dataset.splits)
    blocks, totals = _blocks(dataset, split, limit, subset, subject)
    folder, title = Path(out), f"{shown(dataset.id)}, {split} split"
    sheet = write_bytes(folder / "sheet.png", png(draw_sheet(blocks, totals, title)))
    page = write_text(folder / "page.html", render_page(blocks, totals, title, dataset.digest))
    return Shown(sheet, page)


# --- choosing and reading -------------------------------------------------------------------------------------------


def _blocks(
    dataset: Dataset, split: str, limit: int, subset: str | None, subject: str | None
) -> tuple[list[Block], Totals]:
    places = list(dataset.places("queries", split, ("subject_id", "query_type")))
    wanted = [place for place in places if subject in (None, place.keys[0]) and subset in (None, place.keys[1])]
    people = {place.keys[0]: place for place in dataset.places("subjects", split, ("id",))}
    if subject is not None and subject not in people:
        raise UnknownNameError(f"subject of {dataset.id} {split}", subject, sorted(people)[:50])
    if not wanted:
        what = " and ".join([f"of the type {subset}"] * (subset is not None) + [f"about {subject}"] * bool(subject))
        raise DataError(f"{dataset.id} has no queries {what} in its {split} split; leave out --subset or --subject")
    chosen = choose([(place.keys[0], place.keys[1]) for place in wanted], limit)
    taken = [wanted[i] for i in chosen]
    owners = list(dict.fromkeys(place.keys[0] for place in taken))
    for owner in owners:
        if owner not in people:
            raise DataError(f"{dataset.folder}: queries are about {owner!r}, which is not among the subjects")

    side = _side(len(taken) + PHOTOS * len(owners))
    queries: dict[str, list[Asked]] = defaultdict(list)
    for place, record in dataset.records_at("queries", taken):
        queries[place.keys[0]].append(_asked(record, place.path, side))
    blocks = [
        _block(record, place.path, side, queries[place.keys[0]])
        for place, record in dataset.records_at("subjects", [people[owner] for owner in owners])
    ]
    return blocks, Totals(len(wanted), len({place.keys[0] for place in wanted}))


def choose(queries: Sequence[tuple[str, str]], limit: int) -> list[int]:
    """At most ``limit`` of the (subject, query type) pairs, by index: subject after subject, its types taking turns.

    Subjects stand evenly apart and give ``SCENES`` each; more subjects or more of each come in only where these are
    too few.
    """
    of_subject: dict[str, list[int]] = defaultdict(list)
    for i, (subject, _) in enumerate(queries):
        of_subject[subject].append(i)
    groups = [_by_turns(indices, [queries[i][1] for i in indices]) for indices in of_subject.values()]

    def spread(n: int) -> list[list[int]]:
        return [groups[i * len(groups) // n] for i in range(n)]

    def holds(n: int, each: int) -> int:
        return sum(min(each, len(group)) for group in spread(n))

    n, each = min(len(groups), math.ceil(limit / SCENES)), SCENES
    while n < len(groups) and holds(n, each) < limit:
        n += 1
    while holds(n, each) < min(limit, len(queries)):
        each += 1
    return [i for group in spread(n) for i in group[:each]][:limit]


def _by_turns(indices: list[int], types: list[str]) -> list[int]:
    """The first of each type, then the second of each, and so on."""
    turn: dict[str, int] = defaultdict(int)
    keys = []
    for index, kind in zip(indices, types, strict=True):
        keys.append((turn[kind], QUERY_TYPES.index(kind) if kind in QUERY_TYPES else len(QUERY_TYPES), index))
        turn[kind] += 1
    return [index for *_, index in sorted(keys)]


def _side(pictures: int) -> int:
    """Long side of a picture when there are so many."""
    return max(SMALLEST, min(LARGEST, int((PIXELS / pictures) ** 0.5)))


# --- drawing one picture --------------------------------------------------------------------------------------------


def _asked(record: dict[str, Any], path: Path, side: int) -> Asked:
    where = f"{path}: query {record['id']}"
    image = decode_photo(record["image"]["bytes"] or b"", f"{where}: image")
    mask = from_rle(record["mask"], f"{where}: mask")
    others = [from_rle(rle, f"{where}: look-alike {n}") for n, rle in enumerate(record["look_alikes"], 1)]
    return Asked(
        id=shown(record["id"]),
        text=shown(record["text"]),
        query_type=shown(record["query_type"]),
        origin=shown(f"{record['licence']}; {record['source']}"),
        picture=draw(image, mask, others, side, where),
    )


def _block(record: dict[str, Any], path: Path, side: int, queries: list[Asked]) -> Block:
    where = f"{path}: subject {record['id']}"
    photos = []
    masks = record["masks"] or [None] * len(record["photos"])
    for n, (photo, rle) in enumerate(list(zip(record["photos"], masks, strict=False))[:PHOTOS], 1):
        image = decode_photo((photo or {}).get("bytes") or b"", f"{where}: photo {n}")
        mask = None if rle is None else from_rle(rle, f"{where}: mask {n}")
        photos.append(draw(image, mask, [], side, where))
    return Block(
        id=shown(record["id"]),
        noun=shown(record["noun"]),
        origin=shown(f"{record['licence']}; {record['source']}"),
        n_photos=len(record["photos"]),
        photos=tuple(photos),
        queries=tuple(queries),
    )


def draw(
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "_h _w"] | None,
    look_alikes: Sequence[Bool[np.ndarray, "_h2 _w2"]],
    side: int,
    where: str,
) -> Picture:
    """A picture at most ``side`` pixels long; outlines are drawn after shrinking, so none gets lost.

    A very small image is enlarged by a whole number, without blur.  ``mask`` None: nothing is known about it.
    Raises DataError, naming ``where``, for a mask of another size.
    """
    h, w = image.shape[:2]
    for each in (mask, *look_alikes):
        if each is not None and each.shape != (h, w):
            raise DataError(f"{where} is damaged: a mask of {each.shape} (h, w) on an image of {(h, w)}")
    times = max(1, side // max(h, w))
    small = np.repeat(np.repeat(image, times, axis=0), times, axis=1) if times > 1 else fit_within(image, side)
    size_hw = small.shape[0], small.shape[1]
    overlay = np.zeros((*size_hw, 4), np.uint8)
    for other in look_alikes:
        _paint(overlay, _mask_at(other, size_hw), SKY, dashed=True)
    if mask is not None and mask.any():
        _paint(overlay, _mask_at(mask, size_hw), PINK, dashed=False)
    seen = f"{w} × {h} pixels"
    if mask is not None:
        seen += f", the subject covers {_percent(float(mask.mean()))}" if mask.any() else ", without the subject"
    if look_alikes:
        seen += f", {len(look_alikes)} look-alike{'s' * (len(look_alikes) > 1)}"
    return Picture(small, overlay if overlay.any() else None, seen)


def _percent(share: float) -> str:
    if share < 1e-4:
        return "less than 0.01%"
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.2g}%"


def _mask_at(mask: Bool[np.ndarray, "h w"], size_hw: tuple[int, int]) -> Bool[np.ndarray, "h2 w2"]:
    """The mask at another size: shrunk, a pixel counts when half of what it covers does; the fullest if none would."""
    h, w = size_hw
    if h >= mask.shape[0] and w >= mask.shape[1]:
        return np.repeat(np.repeat(mask, h // mask.shape[0], axis=0), w // mask.shape[1], axis=1)
    share = np.asarray(Image.fromarray(mask.astype(np.float32)).resize((w, h), Image.Resampling.BOX))
    return share > min(0.5, 0.999 * float(share.max()))


def _paint(
    overlay: UInt8[np.ndarray, "h w 4"], mask: Bool[np.ndarray, "h w"], colour: tuple[int, int, int], dashed: bool
) -> None:
    """Outline a mask in a dark casing, so that it stands out on any ground; a tint inside when it is not dashed.

    What is too small to be seen gets a ring around it.
    """
    h, w = mask.shape
    rows, columns = np.indices((h, w))
    ys, xs = np.nonzero(mask)
    width = max(1, round(max(h, w) / 120))
    edge = mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=0)
    least = max(h, w) / 24
    if max(np.ptp(ys), np.ptp(xs)) < least:
        distance = np.hypot(rows - ys.mean(), columns - xs.mean())
        edge |= np.abs(distance - 1.5 * least) <= width / 2 + 0.2
    casing = ndimage.binary_dilation(edge, iterations=1) & ~edge & ~mask
    if not dashed:
        inside = mask & ~edge
        overlay[inside] = (*colour, 40)
    else:
        casing |= edge
        edge = edge & ((rows + columns) // (3 * width + 2) % 2 == 0)
    overlay[casing] = (20, 20, 20, 160)
    overlay[edge] = (*colour, 255)


def flat(picture: Picture) -> UInt8[np.ndarray, "h w 3"]:
    """The image with its outlines on it."""
    if picture.overlay is None:
        return picture.image
    opacity = picture.overlay[..., 3:].astype(np.float32) / 255
    mixed = picture.image * (1 - opacity) + picture.overlay[..., :3] * opacity
    return np.asarray(mixed.round(), np.uint8)


def shown(text: str) -> str:
    """A text as one short line of printable characters.

    Line ends, tabs and marks that turn the direction of writing around would reach beyond the text; all else stays.
    """
    cut = text[: LONGEST + 1]
    line = "".join(c if c.isprintable() or c in "\u200c\u200d" else " " if c.isspace() else "\ufffd" for c in cut)
    line = " ".join(line.split())
    return line if len(line) <= LONGEST and len(text) <= LONGEST else line[: LONGEST - 1] + "…"


# --- the sheet ------------------------------------------------------------------------------------------------------

TILE, GAP, LINE, HEAD = 220, 10, 16, 68
COLUMNS = SCENES + 1
LINES = 3
INK, SOFT, BAND, PAPER = (27, 31, 36), (87, 96, 106), (240, 242, 245), (255, 255, 255)


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


def draw_sheet(blocks: Sequence[Block], totals: Totals, title: str) -> UInt8[np.ndarray, "h w 3"]:
    """A subject's photos and, to the right, its scenes; the next subject beside it when there is room, else below.

    Letters are those of Pillow's own font, which has the Latin ones without accents: accents are dropped, and what is
    of another script becomes boxes.  The page has them all.
    """
    rows = _rows(blocks)
    heights = [_height(row) for row in rows]
    width = max(480, *(sum(_width(piece) + GAP for piece in row) + GAP for row in rows))
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


def _rows(blocks: Sequence[Block]) -> list[list[list[_Cell | None]]]:
    """Rows of pieces of cells.  A block's first piece begins with the subject, those that go on below with nothing."""
    rows: list[list[list[_Cell | None]]] = [[]]
    for block in blocks:
        scenes = [_scene_cell(query) for query in block.queries]
        for start in range(0, len(scenes), SCENES):
            piece: list[_Cell | None] = [None if start else _subject_cell(block), *scenes[start : start + SCENES]]
            if rows[-1] and (start or sum(map(len, rows[-1])) + len(piece) > COLUMNS):
                rows.append([])
            rows[-1].append(piece)
    return rows


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
    return _Cell(grid, (_Words(block.noun, 15), _Words(block.id, 11, SOFT), _Words(more, 11, SOFT)))


def _scene_cell(asked: Asked) -> _Cell:
    """The picture, its query type, its text."""
    picture = _fitted(flat(asked.picture), TILE)
    label = _Words(asked.query_type, 11, PAPER, INK)
    if asked.query_type == "absent":
        ImageDraw.Draw(picture).rectangle((0, 0, picture.width - 1, picture.height - 1), outline=VERMILION, width=3)
        label = _Words("absent: not in this scene", 11, PAPER, VERMILION)
    return _Cell(picture, (label, *(_Words(line, 12) for line in wrap(asked.text, 12, TILE, LINES))))


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
    for colour, name, dash in ((PINK, "the subject", 24), (SKY, "its look-alikes", 5)):
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


# --- the page -------------------------------------------------------------------------------------------------------


def render_page(blocks: Sequence[Block], totals: Totals, title: str, digest: str) -> str:
    """The whole page.  Every text in it is escaped; its policy forbids to fetch anything or run another script."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "policy_hash": _policy_hash,
        "parts": _parts,
        "photo_uri": _photo_uri,
        "lines_uri": _lines_uri,
    }
    types = {query.query_type for block in blocks for query in block.queries}
    return environment.get_template("page.html.j2").render(
        title=title,
        digest=digest,
        counts=counts(blocks, totals),
        blocks=blocks,
        types=[kind for kind in QUERY_TYPES if kind in types],
        slot=SLOT,
    )


def _policy_hash(text: str) -> str:
    """How a Content-Security-Policy names a piece of the page itself."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _parts(text: str) -> tuple[str, str, str]:
    """The text before the slot, the slot, the text after it."""
    return text.partition(SLOT)


def _photo_uri(picture: Picture) -> str:
    out = io.BytesIO()
    Image.fromarray(picture.image).save(out, format="WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def _lines_uri(overlay: UInt8[np.ndarray, "h w 4"]) -> str:
    """The outlines alone, on nothing: a palette is enough, and a quarter of the bytes."""
    out = io.BytesIO()
    Image.fromarray(overlay).quantize(16, Image.Quantize.FASTOCTREE).save(out, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
