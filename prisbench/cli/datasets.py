"""``prisbench build-dataset``, ``validate``, ``card``, ``show``: parse, call one function, print.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from prisbench.cli.bars import named_dataset
from prisbench.cli.options import BENCHMARK, DATASET, SameDataset, one_name, only_with
from prisbench.errors import DataError, UsageError
from prisbench.runtime.console import Format, OutputFormat, known, progress, progress_bar, say, table_bars, tell, width

app = typer.Typer()


class ReportFormat(StrEnum):
    rich = "rich"
    json = "json"
    github = "github"


Options = Annotated[
    list[str], typer.Option("--set", metavar="NAME=VALUE", help="An option of the source (see --describe); repeatable.")
]


@app.command("build-dataset")
def build_dataset(
    source: Annotated[
        str,
        typer.Argument(
            help="Where the data comes from: tabletop, folder, coco, coco-panoptic, break-a-scene, labelme, perseg, "
            "pods, perv-ytvos, permis, ycb-video, davis, voc-instances, mug19."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The folder to write; it appears whole or not at all.")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder or archive (zip, tar) that the source reads.")] = None,
    options: Options = [],  # noqa: B006
    validation: Annotated[
        int | None, typer.Option(min=1, help="tabletop: validation subjects, for another set than the benchmark.")
    ] = None,
    test: Annotated[int | None, typer.Option(min=1, help="tabletop: test subjects.")] = None,
    seed: Annotated[int | None, typer.Option(help="tabletop: another world.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a dataset that stands there.")] = False,
    describe: Annotated[
        bool, typer.Option("--describe", help="Only say what the source reads, and its options.")
    ] = False,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="NAME", help="Afterwards send it to the Hugging Face Hub, with its card.")
    ] = None,
    private: Annotated[bool, typer.Option(help="For --push-to-hub: a new repository is private.")] = False,
    format: OutputFormat = Format.text,
) -> None:
    """Build a dataset that datasets.load_dataset opens; interrupted, the same command goes on."""
    from prisbench.datasets import named
    from prisbench.datasets.cards import croissant, publish
    from prisbench.datasets.cards.text import write_readme
    from prisbench.datasets.load import open_dataset
    from prisbench.datasets.subject_names import listed

    known("source", source, named.SOURCES)
    only_with("--push-to-hub", push_to_hub, private=private)
    only_with("the source tabletop", source == "tabletop", validation=validation, test=test, seed=seed)
    if describe:
        print(named.describe_source(source))
        return
    if out is None:
        raise UsageError("say where to write it: --out FOLDER")
    given = _pairs(options)
    given |= {
        name: str(value)
        for name, value in (("validation", validation), ("test", test), ("seed", seed))
        if value is not None
    }
    with progress() as bar:
        show = table_bars(bar, "writing", {})
        manifest, left_out = named.build_source(source, root, given, out, named.Reports(show, tell), overwrite)
    write_readme(out)
    croissant.write_croissant(out)
    address = publish.push(out, push_to_hub, private) if push_to_hub else None
    lines = [f"{manifest.id} in {out}", f"digest {manifest.digest}"]
    lines += [f"{s}: {n} subjects, {manifest.n_queries(s)} queries" for s, n in manifest.subjects.items()]
    names = {id: name for id, name in open_dataset(out).subject_names().items() if name}
    lines += [f"subjects: {listed(names)}"] if names else []
    lines += [f"left out: {n} ({reason})" for reason, n in sorted(left_out.items())]
    lines += [f"on the hub: {address}"] if address else []
    say({**manifest.to_json(), "left_out": dict(left_out), "hub": address}, format, "\n".join(lines))


@app.command()
def validate(
    path: Annotated[
        str | None, typer.Argument(metavar="[DATASET]", help=f"{DATASET} Or photos: a folder for each subject.")
    ] = None,
    dataset: SameDataset = None,
    leaks: Annotated[bool, typer.Option(help="The leak audit, which takes most of the time.")] = True,
    against: Annotated[
        list[str], typer.Option(help="Another dataset or folder of photos to share no picture with; repeatable.")
    ] = [],  # noqa: B006
    embedding: Annotated[
        str | None, typer.Option(metavar="ID_OR_FOLDER", help="Also compare embeddings by this vision model.")
    ] = None,
    format: Annotated[ReportFormat, typer.Option(help="How to print the report.")] = ReportFormat.rich,
) -> None:
    """Check a dataset: exit code 0 when it is sound, 1 when it has errors, 2 when there is nothing to examine."""
    from prisbench.datasets.checks import findings, validate
    from prisbench.datasets.checks.embedding import load_embedding

    path = one_name(path, dataset)
    only_with("the leak audit (no --no-leaks)", leaks, against=against, embedding=embedding)
    embed = load_embedding(embedding) if embedding else None
    with progress() as bar:
        show = table_bars(bar, "checking", {})
        folder, *others = [
            Path(each) if Path(each).exists() else named_dataset(each, bar).folder for each in (path, *against)
        ]
        report = validate.validate(folder, leaks=leaks, against=others, embed=embed, progress=show)
    colour = format is ReportFormat.rich and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(findings.render(report, format.value, colour, width()))
    raise typer.Exit(findings.exit_code(report))


@app.command()
def card(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CARD_OR_DATASET...]", help=f"Cards, or built datasets; default: all of data_cards/. {DATASET}"
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Fail when a card and its data disagree.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Put the facts of the data into the cards first.")] = False,
    dataset: Annotated[str | None, typer.Option(help=f"The data of a single card. {DATASET}")] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Folder with small real sets for the cards of samples; default: PRISBENCH_DATA.")
    ] = None,
    before: Annotated[Path | None, typer.Option("--data", hidden=True, help="What --samples was called.")] = None,
    format: OutputFormat = Format.text,
) -> None:
    """Hold data cards to their data: facts, front matter, headings."""
    from prisbench.datasets.cards.check import check_cards, render

    with progress() as bar:
        reports = check_cards(paths or [], dataset, write, samples or before, table_bars(bar, "drawing", {}))
    records = [{"card": str(r.path), "differences": list(r.differences), "held_to": r.note} for r in reports]
    say(records, format, render(reports))
    if check and any(report.differences for report in reports):
        raise DataError("data cards and data disagree; mend the card, or run prisbench card --write for the facts")


@app.command()
def show(
    dataset: Annotated[str | None, typer.Argument(help=DATASET, show_default=BENCHMARK)] = None,
    same: SameDataset = None,
    out: Annotated[Path, typer.Option(help="Folder for sheet.png, page.html and browse.html.")] = Path("shown"),
    split: Annotated[str, typer.Option(help="The dataset's split.")] = "test",
    limit: Annotated[int, typer.Option(help="Queries to show, evenly over subjects and types.")] = 40,
    subset: Annotated[str | None, typer.Option(help="One query type, or look-alike:GRADE, or present.")] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="NAME", help="One subject, by name, id, or how one of these begins.")
    ] = None,
    format: OutputFormat = Format.text,
) -> None:
    """A contact sheet, an offline page and a browser: scenes with outlines, look-alikes, texts, the subject's photos.

    --limit is of the sheet and the page; the browser has every query, up to 2,000.
    """
    from prisbench.browser.write import write_queries
    from prisbench.datasets.show import page

    found = named_dataset(one_name(dataset, same, BENCHMARK))
    shown = page.show(found, out, split, limit, subset, subject)
    with progress_bar("scenes") as step:
        browse = write_queries(found, split, out, subset, subject, step)
    record = {"sheet": str(shown.sheet), "page": str(shown.page), "browse": str(browse)}
    say(record, format, f"{shown.sheet}\n{shown.page}\n{browse}")


@app.command()
def push(
    names: Annotated[
        list[str],
        typer.Argument(metavar="DATASET NAME", help=f"{DATASET} And its NAME or OWNER/NAME there."),
    ],
    same: SameDataset = None,
    private: Annotated[bool, typer.Option(help="A new repository is private.")] = False,
    format: OutputFormat = Format.text,
) -> None:
    """Send a built dataset to the Hugging Face Hub, with its card."""
    from prisbench.datasets.cards import publish

    *given, name = names
    if len(given) > 1:
        raise UsageError(f"push takes a dataset and its name on the Hub, and no more: {' '.join(names)}")
    address = publish.push(named_dataset(one_name(given[0] if given else None, same)).folder, name, private)
    say({"hub": address}, format, address)


def _pairs(options: list[str]) -> dict[str, str]:
    given = {}
    for pair in options:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"--set {pair!r}: expected NAME=VALUE, such as references=4")
        given[name] = value
    return given
