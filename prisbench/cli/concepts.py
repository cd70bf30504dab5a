"""``prisbench learn-concept`` and ``prisbench concept ...``: parse, call one function, print.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from prisbench.cli.bars import Names, learning_bar, named_dataset
from prisbench.cli.options import DATASET, Backbone, ReferenceSetting, Seeds, Settings, check_noun, only_with
from prisbench.errors import UsageError
from prisbench.runtime.console import Device, Format, OutputFormat, known, progress, say, tell
from prisbench.runtime.devices import usable_device

app = typer.Typer(help="Concepts to and from the files that other programs use.", no_args_is_help=True)


def learn_concept(
    photos: Annotated[Path | None, typer.Option(help="A folder with 1-30 photos of one thing.")] = None,
    noun: Annotated[str | None, typer.Option(help="The thing's class word, such as mug.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What you call the thing, like mug-anna; segment finds the concept by it. Default: by hash."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help=f"Instead of photos. {DATASET}")] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="One of its subjects, by name, id, or how one of these begins; all when left out.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="The dataset's split.", show_default="test")] = None,
    reference: Annotated[
        ReferenceSetting | None,
        typer.Option(help="Of a dataset: photos alone, or their masks, too, as evaluate.", show_default="photos"),
    ] = None,
    learner: Annotated[
        list[str], typer.Option(help="textual-inversion, dreambooth, dreambooth-lora or custom-diffusion; or several.")
    ] = ["textual-inversion"],  # noqa: B006
    mask_value: Annotated[
        str | None,
        typer.Option(help="The values of mask files that are the thing, like 255, 1,2 or 128-255; default: not 0."),
    ] = None,
    mask_frame: Annotated[
        str | None,
        typer.Option(help="Masks of photos turned by EXIF lie on the photo as shown (upright) or as stored (raw)."),
    ] = None,
    mask_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of photos with several masks each (img.jpg, mask0.png, mask1.png in a folder): which is the thing's, "
            "like 0, or 0,1 for both together.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the concept; default: the store in the cache. With --name it is kept in both."),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Folder for a picture of each concept: photos, maps, samples, loss.")
    ] = None,
    backbone: Backbone = None,
    seed: Seeds = [0],  # noqa: B006
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    format: OutputFormat = Format.text,
) -> None:
    """Learn one particular thing from a few photos."""
    from prisbench import learning
    from prisbench.concepts.recipes import LEARNERS
    from prisbench.concepts.store import named_folder, renamed
    from prisbench.datasets.photo_folder import folder_name
    from prisbench.datasets.subject_names import known_names, plain_name, title
    from prisbench.localizer.method import AttentionMethod
    from prisbench.settings import MethodOptions, parse_settings, variants

    check_noun(noun or None)  # an empty one is asked for below, with what the folder suggests
    for each in learner:
        known("learner", each, LEARNERS)
    if (photos is None) != (dataset is None):
        only_with("--photos", photos, name=name, noun=noun)
        only_with("--dataset", dataset, subject=subject, split=split, reference=reference)
    kept = named_folder(name) if name is not None else None
    second = kept if out is not None else None  # with --out the concept is there, and under its name in the store, too
    spare = out.resolve().with_name(f".{out.resolve().name}.learning") if out and name is None else None
    out = kept if out is None else out
    shared = MethodOptions(model=backbone, device=usable_device(device), settings=parse_settings(settings))
    wanted = variants(shared, learner, seed)
    for options in wanted:
        AttentionMethod.check(options)
    setting = (reference or ReferenceSetting.photos).value
    of_dataset = DatasetSubjects(str(dataset), subject, split or "test", setting) if dataset is not None else None
    things = chosen_subjects(photos, noun, of_dataset, (mask_value, mask_frame, mask_name))
    names = Names()
    if dataset is not None:
        names.of(named_dataset(dataset), split or "test")
    elif photos is not None and name is None:
        names.update(known_names({things[0].id: plain_name(folder_name(photos)) or ""}))
    if name is not None:
        things = [dataclasses.replace(things[0], id=name)]
    if kept is not None and len(wanted) == 1:
        renamed(kept, None)
    jobs = learning.plan(wanted, things, out, sheet, second)
    with progress() as bar, names.in_errors():
        learned = learning.carry_out(
            jobs, spare, names.tell, lambda subject: learning_bar(bar, f"learning {names.get(subject, subject)}")
        )
    learned = [{**record, "name": names.get(record["subject"])} for record in learned]
    say(
        learned if len(learned) != 1 else learned[0],
        format,
        "\n".join(
            f"{title(r['subject'], names.get(r['subject']))}: {r['folder']}"
            + (f", and by the name {r['named']}" if r["named"] and second else "")
            for r in learned
        ),
    )


@app.command("list")
def list_concepts(format: OutputFormat = Format.text) -> None:
    """What the store keeps: names and keys, nouns, what each was learned by, and on which backbone."""
    from prisbench.concepts.store import default_store, kept_concepts

    records = kept_concepts()
    lines = [
        f"{r['name']}: {r['noun']}, {r['learner']} on {r['backbone'] or 'no backbone'}"
        + (f"; also {', '.join(r['keys'])}" if r["keys"] else f"; subject {r['subject']}")
        for r in records
    ]
    say(records, format, "\n".join([*lines, f"{len(records)} concepts in {default_store()}"]))


@app.command("export")
def export_concept(
    concept: Annotated[Path, typer.Argument(help="A concept's folder, from learn-concept, or its --name.")],
    to: Annotated[str, typer.Option("--to", help="learned-embeds, a1111, lora, kohya, custom-diffusion or folder.")],
    out: Annotated[Path, typer.Option(help="The folder to write into.")],
    token: Annotated[str | None, typer.Option(help="The word that other programs will know it by.")] = None,
    backbone: Backbone = None,
    format: OutputFormat = Format.text,
) -> None:
    """Write a concept in a form that diffusers, kohya's scripts or web UIs load."""
    from prisbench.concepts.interop import export, formats
    from prisbench.concepts.store import concept_folder, read_concept
    from prisbench.diffusion.loading import load_backbone

    known("concept format", to, formats.FORMATS)
    written = export.export_concept(read_concept(concept_folder(concept)), to, out, load_backbone(backbone), token)
    say({"files": [str(path) for path in written]}, format, "\n".join(map(str, written)))


@app.command("import")
def import_concept(
    path: Annotated[Path, typer.Argument(help="A safetensors file, or the folder another program wrote.")],
    noun: Annotated[str, typer.Option(help="The thing's class word, such as mug.")],
    rare: Annotated[str, typer.Option(help="For LoRA and DreamBooth: the rare word it was trained with.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the concept; default: the store in the cache.")] = None,
    name: Annotated[str | None, typer.Option(help="What you call the thing; segment finds the concept by it.")] = None,
    backbone: Backbone = None,
    format: OutputFormat = Format.text,
) -> None:
    """Take up a concept that another program learned on the same backbone."""
    from prisbench.concepts.interop import imports
    from prisbench.concepts.store import default_store, named_folder, renamed, write_concept
    from prisbench.diffusion.loading import load_backbone

    check_noun(noun)
    kept = named_folder(name) if name is not None else None
    concept = imports.import_concept(path, load_backbone(backbone), noun, name or "imported", rare)
    if out is None and kept is not None and (line := renamed(kept, concept.id)):
        tell(line)
    folder = write_concept(concept, out or kept or default_store() / concept.id)
    say({"concept": concept.id, "folder": str(folder), "learner": concept.learner}, format, str(folder))


class DatasetSubjects(NamedTuple):
    """Subjects of a dataset: all of a split or one, with what the reference setting gives of them."""

    dataset: str
    subject: str | None
    split: str
    reference: str


def chosen_subjects(
    photos: Path | None,
    noun: str | None,
    of_dataset: DatasetSubjects | None,
    said_of_masks: tuple[str | None, ...] = (),
) -> list[Any]:
    """The subjects to learn.  ``said_of_masks``: of the photos' masks the value, the frame, and which ones."""
    from prisbench.datasets.photo_folder import read_own_photos, remarks, suggested_noun
    from prisbench.datasets.schema import subject_id
    from prisbench.datasets.sources.mask_files import parse_rule
    from prisbench.split_subjects import SplitSubjects
    from prisbench.types import Subject

    if (photos is None) == (of_dataset is None):
        raise UsageError("give either --photos FOLDER with --noun WORD, or --dataset NAME")
    value, frame, mask_name = (*said_of_masks, None, None, None)[:3]
    if of_dataset is not None and (value, frame, mask_name) != (None, None, None):
        raise UsageError(
            "--mask-value, --mask-frame and --mask-name are said of masks beside --photos, not of a dataset"
        )
    if photos is not None:
        if not noun:
            raise UsageError(
                f"--photos needs --noun, the thing's class word, such as --noun {suggested_noun(photos) or 'mug'}"
            )
        own = read_own_photos(photos, parse_rule(value, frame, "--mask-value ", "--mask-frame "), mask_name)
        for line in remarks(own):
            tell(line)
        return [Subject(subject_id(noun, own.photos), noun, own.photos, own.masks)]
    assert of_dataset is not None, "one of the two"
    data = named_dataset(of_dataset.dataset)
    named = [] if of_dataset.subject is None else [of_dataset.subject]
    wanted = data.find_subjects(named, of_dataset.split)
    subjects = SplitSubjects(data, of_dataset.split, of_dataset.reference)
    return list(subjects.of([id for id in subjects.ids if not wanted or id in wanted]).values())
