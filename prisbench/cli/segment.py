"""``prisbench segment`` and ``prisbench presets``: parse, call one function, print.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from prisbench.cli.options import Backbone, Settings
from prisbench.errors import UsageError
from prisbench.runtime.console import Device, Format, OutputFormat, known, nothing_on_stdout, say, tell
from prisbench.runtime.devices import usable_device


def segment(
    photo: Annotated[Path, typer.Argument(help="The photo to search.")],
    text: Annotated[str, typer.Option(help="What to look for, with the slot {subject}.")] = "a photo of the {subject}",
    concept: Annotated[Path | None, typer.Option(help="A concept's folder, from learn-concept.")] = None,
    noun: Annotated[str | None, typer.Option(help="Another class word than the concept's; or the word alone.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for mask.png, overlay.png and map.png.")] = Path("segmented"),
    backbone: Backbone = None,
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    format: OutputFormat = Format.text,
) -> None:
    """Find the thing in one photo, or find that it is not there."""
    import time

    from prisbench.concepts.controls import noun_only
    from prisbench.concepts.store import read_concept
    from prisbench.images import drawing, masks
    from prisbench.images.photos import load_photo
    from prisbench.localizer.method import AttentionMethod
    from prisbench.out_of_domain import in_domain, look, warning
    from prisbench.runtime.files import check_writable, write_bytes
    from prisbench.settings import MethodOptions, parse_settings
    from prisbench.types import SLOT, Query, Subject

    if SLOT not in text:
        raise UsageError(
            f"--text {text!r} has no slot: write {SLOT} where the thing's own words go, as in 'the {SLOT} on the desk'"
        )
    if concept is None and noun is None:
        raise UsageError("give --concept FOLDER (from learn-concept) or --noun WORD (the class word alone)")
    check_writable(out)
    image = load_photo(photo)
    known = read_concept(concept) if concept else noun_only(Subject("photo", noun or "", ()))
    known = dataclasses.replace(known, noun=noun) if noun else known
    with nothing_on_stdout():
        method = AttentionMethod.make(
            MethodOptions("noun-only", backbone, 0, usable_device(device), parse_settings(settings))
        )
        method.say = tell
        strange = look(method, image)
        if line := warning([strange], "photo"):
            tell(line)
        start = time.perf_counter()
        answer = method.locate(image, [Query("photo", known.subject_id, text)], {known.subject_id: known})[0]
    seconds = time.perf_counter() - start
    import numpy as np

    mask = answer.mask if answer.mask is not None else np.zeros(image.shape[:2], bool)
    write_bytes(out / "mask.png", masks.to_png(mask))
    write_bytes(out / "overlay.png", drawing.png(drawing.outline(image, mask, width=max(1, max(image.shape) // 300))))
    if answer.score is not None:
        write_bytes(out / "map.png", drawing.png(drawing.heat(image, answer.score)))
    threshold = method.presence(known)
    record = {
        "found": bool(mask.any()),
        "presence": answer.presence,
        "presence_threshold": threshold.threshold,
        "in_domain": in_domain(strange),
        "area_fraction": float(mask.mean()),
        "seconds": round(seconds, 3),
        "out": str(out),
    }
    where = f"covers {mask.mean():.1%} of the photo" if mask.any() else "not here"
    seen = f"presence {answer.presence:.3f} ({threshold.line})"
    say(record, format, f"{where}; {seen}; {seconds:.2f} s; pictures in {out}")


def show_presets(
    name: Annotated[str | None, typer.Argument(help="paper, fast, balanced or accurate; all when left out.")] = None,
    family: Annotated[str, typer.Option(help="embedded, sd (Stable Diffusion 1.x, 2.x) or sdxl.")] = "embedded",
    format: OutputFormat = Format.text,
) -> None:
    """Every number of the localizer's presets; each can be overridden with --set localizer.NAME=VALUE."""
    from prisbench.localizer import presence, presets

    known("backbone family", family, tuple(presets.PRESETS))
    names = [name] if name else list(presets.PRESETS[family])
    records = {each: presets.preset(each, family).as_record() for each in names}
    if format is Format.json:
        print(json.dumps(records))
        return
    width = max(len(key) for record in records.values() for key in record)
    for each, record in records.items():
        standard = " (the default)" if presets.DEFAULTS[family] == each else ""
        threshold = presence.in_use(presets.preset(each, family), family, "")
        print(f"{each} on {family}{standard}; {threshold.line}")
        print("\n".join(f"  {key:{width}}  {json.dumps(value)}" for key, value in record.items()) + "\n")
