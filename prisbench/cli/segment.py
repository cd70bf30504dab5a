"""``prisbench segment`` and ``prisbench presets``: parse, call one function, print.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from prisbench.cli.bars import say_table
from prisbench.cli.options import Backbone, Settings, check_noun
from prisbench.errors import UsageError
from prisbench.runtime.console import SOME_FAILED, Device, Format, OutputFormat, known, nothing_on_stdout, tell
from prisbench.runtime.devices import usable_device

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from prisbench.localizer.method import AttentionMethod
    from prisbench.out_of_domain import Strangeness
    from prisbench.types import Concept


class Precision(StrEnum):
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


def segment(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO...", help="The photo to search; several, or a folder of them.")
    ],
    text: Annotated[str, typer.Option(help="What to look for, with the slot {subject}.")] = "a photo of the {subject}",
    concept: Annotated[
        Path | None, typer.Option(help="A concept's folder, from learn-concept, or the --name it got there.")
    ] = None,
    noun: Annotated[str | None, typer.Option(help="Another class word than the concept's; or the word alone.")] = None,
    out: Annotated[
        Path,
        typer.Option(help="Folder for mask.png, overlay.png and map.png; of several photos, with a folder for each."),
    ] = Path("segmented"),
    backbone: Backbone = None,
    dtype: Annotated[
        Precision, typer.Option(help="The network's numbers; bf16 and fp16 take half the memory.")
    ] = Precision.fp32,
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    format: OutputFormat = Format.text,
) -> None:
    """Find the thing in photos, or find that it is not there.  Exit code 2 when one of several cannot be read, 1 when
    its pictures cannot be written.
    """
    from prisbench.errors import DataError, MissingExtraError, WriteError
    from prisbench.images.photos import load_photo, scene_files
    from prisbench.out_of_domain import look, warning
    from prisbench.runtime.files import check_writable
    from prisbench.types import SLOT

    if SLOT not in text:
        raise UsageError(
            f"--text {text!r} has no slot: write {SLOT} where the thing's own words go, as in 'the {SLOT} on the desk'"
        )
    check_noun(noun)
    if concept is None and noun is None:
        raise UsageError("give --concept FOLDER (from learn-concept) or --noun WORD (the class word alone)")
    check_writable(out)
    several = len(photos) > 1 or photos[0].is_dir()
    found = scene_files(photos, tell)
    only = None if several else load_photo(found[0])  # what is wrong with it is told before anything is loaded
    known = _known(concept, noun)
    with nothing_on_stdout():
        method = _method(backbone, dtype, usable_device(device), settings)
    places = _places(found, out) if several else [out]
    records, strange, failed, unwritten = [], [], 0, 0
    for path, place in zip(found, places, strict=True):
        try:
            with nothing_on_stdout():
                image = load_photo(path) if only is None else only
                strangeness = look(method, image)
                if not several and (line := warning([strangeness], "photo")):
                    tell(line)
                record = _segmented(method, known, Shown(path, image, strangeness), text, place)
        except (DataError, MissingExtraError, WriteError) as error:
            if not several:
                raise
            failed += 1
            unwritten += isinstance(error, WriteError)
            tell(f"error: {error}")
            continue
        strange.append(strangeness)
        records.append(record)
        if format is Format.text:
            print(f"{path}: {_said(record, method, known)}" if several else _said(record, method, known), flush=True)
    if several and (line := warning(strange, "photo")):
        tell(line)
    if format is Format.json:
        print(json.dumps(records if several else records[0], allow_nan=False))
    if failed:
        lost = f" ({unwritten} because their pictures could not be written)" if unwritten else ""
        tell(f"{failed} of {len(found)} photos could not be searched{lost}; see above")
        raise typer.Exit(1 if unwritten or failed == len(found) else SOME_FAILED)


def _known(concept: Path | None, noun: str | None) -> Concept:
    """The concept in a folder or of a name, with another noun where one is said; or the class word alone."""
    from prisbench.concepts.controls import noun_only
    from prisbench.concepts.store import concept_folder, read_concept
    from prisbench.types import Subject

    found = read_concept(concept_folder(concept)) if concept else noun_only(Subject("photo", noun or "", ()))
    return dataclasses.replace(found, noun=noun) if noun else found


def _method(backbone: str | None, dtype: Precision, device: str, settings: list[str]) -> AttentionMethod:
    """The localizer, with the backbone loaded once in the numbers asked for."""
    from prisbench.localizer.method import AttentionMethod
    from prisbench.settings import MethodOptions, parse_settings

    options = MethodOptions("noun-only", backbone, 0, device, parse_settings(settings))
    AttentionMethod.check(options)
    loaded = None
    if dtype is not Precision.fp32:
        import torch

        from prisbench.diffusion.loading import load_backbone

        numbers = torch.bfloat16 if dtype is Precision.bf16 else torch.float16
        loaded = load_backbone(backbone, device, numbers)
    method = AttentionMethod.make(options, loaded)
    method.say = tell
    return method


class Shown(NamedTuple):
    """A photo as it was loaded, and how strange it is to the backbone."""

    path: Path
    image: UInt8[np.ndarray, "h w 3"]
    strange: Strangeness | None


def _segmented(method: AttentionMethod, known: Concept, shown: Shown, text: str, out: Path) -> dict[str, Any]:
    """Search one photo and draw what was found; its record."""
    import time

    import numpy as np

    from prisbench.images import drawing, masks
    from prisbench.out_of_domain import in_domain
    from prisbench.runtime.files import write_bytes
    from prisbench.types import Query

    image = shown.image
    start = time.perf_counter()
    answer = method.locate(image, [Query("photo", known.subject_id, text)], {known.subject_id: known})[0]
    seconds = time.perf_counter() - start
    mask = answer.mask if answer.mask is not None else np.zeros(image.shape[:2], bool)
    write_bytes(out / "mask.png", masks.to_png(mask))
    write_bytes(out / "overlay.png", drawing.png(drawing.outline(image, mask, width=max(1, max(image.shape) // 300))))
    if answer.score is not None:
        write_bytes(out / "map.png", drawing.png(drawing.heat(image, answer.score)))
    return {
        "photo": str(shown.path),
        "found": bool(mask.any()),
        "presence": answer.presence,
        "presence_threshold": method.presence(known).threshold,
        "in_domain": in_domain(shown.strange),
        "area_fraction": float(mask.mean()),
        "seconds": round(seconds, 3),
        "out": str(out),
    }


def _said(record: dict[str, Any], method: AttentionMethod, known: Concept) -> str:
    where = f"covers {record['area_fraction']:.1%} of the photo" if record["found"] else "not here"
    seen = f"presence {record['presence']:.3f} ({method.presence(known).line})"
    return f"{where}; {seen}; {record['seconds']:.2f} s; pictures in {record['out']}"


def _places(photos: list[Path], out: Path) -> list[Path]:
    """A folder for each of several photos: its name without the suffix, or all of it where two are alike then."""
    stems = Counter(photo.stem for photo in photos)
    names = [photo.stem if stems[photo.stem] == 1 else photo.name for photo in photos]
    again = {name for name, n in Counter(names).items() if n > 1}
    numbered = [f"{name}-{n}" if name in again else name for n, name in enumerate(names, 1)]
    return [out / name for name in numbered]


def show_presets(
    name: Annotated[str | None, typer.Argument(help="paper, fast, balanced or accurate; all when left out.")] = None,
    family: Annotated[
        str, typer.Option(help="embedded, sd (Stable Diffusion 1.x, 2.x), sdxl, or a transformer's, as sd3 or flux.")
    ] = "embedded",
    format: OutputFormat = Format.text,
) -> None:
    """Every number of the localizer's presets; each can be overridden with --set localizer.NAME=VALUE."""
    from prisbench.localizer import presence, presets

    known("backbone family", family, tuple(presets.PRESETS))
    names = [name] if name else list(presets.PRESETS[family])
    records = {each: presets.preset(each, family).as_record() for each in names}
    longest = max(len(key) for record in records.values() for key in record)
    lines = []
    for each, record in records.items():
        standard = " (the default)" if presets.DEFAULTS[family] == each else ""
        threshold = presence.in_use(presets.preset(each, family), family, "")
        lines.append(f"{each} on {family}{standard}; {threshold.line}")
        lines += [*(f"  {key:{longest}}  {json.dumps(value)}" for key, value in record.items()), ""]
    say_table(records, format, "\n".join(lines))
