"""The options that several commands have, and how one that may be repeated is written once.

Knows: typer.  Does not know: what any command does.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from prisbench.settings import MethodOptions

BENCHMARK = "tabletop-v3"
"""The dataset of commands that are told no other; a test holds it to ``datasets.named.NAMES``, which is slow to load.
"""


class Dtype(StrEnum):
    fp32 = "fp32"
    bf16 = "bf16"


Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a number, e.g. localizer.tau=0.3; repeatable."),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings-file", metavar="FILE", help="Settings that tune chose; the row is marked as tuned."),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="ID_OR_FOLDER",
        help="A diffusers pipeline: hub id or folder. Default: the embedded one, which knows Tabletop only.",
    ),
]


MethodName = Annotated[
    str, typer.Option("--method", help="A method's name, or a Python file that defines make(options).")
]
DATASET = "A dataset: its name, its folder, or OWNER/NAME on the Hugging Face Hub."
"""What every command says of a dataset that it takes; ``datasets.named.find_dataset`` reads all of them."""
DatasetName = Annotated[str, typer.Option("--dataset", help=DATASET)]
RowsData = Annotated[
    list[str],
    typer.Option("--data", help=f"What rows were made on, where prisbench does not draw it; repeatable. {DATASET}"),
]
SameDataset = Annotated[str | None, typer.Option("--dataset", help="The same, as the other commands have it.")]
Concepts = Annotated[
    list[str],
    typer.Option(
        "--concept",
        help="For attn: a learner, or a control: noun-only, untrained-token, another-subject; or several of them.",
    ),
]
Split = Annotated[str, typer.Option("--split", help="Settings are chosen on validation; test is reported.")]
Subset = Annotated[str | None, typer.Option("--subset", help="One query type only, or look-alike:GRADE, or present.")]
Limit = Annotated[
    int | None, typer.Option("--limit", help="So many queries, spread over subjects, types and grades, for trying out.")
]
Subjects = Annotated[
    list[str],
    typer.Option(
        "--subject",
        metavar="NAME",
        help="Only this subject's queries, by name, id, or how one of these begins; repeatable.",
    ),
]
Queries = Annotated[list[str], typer.Option("--query", metavar="ID", help="Only this query; repeatable.")]
MethodModel = Annotated[
    str | None, typer.Option("--model", "--backbone", metavar="ID_OR_FOLDER", help="Weights for the method.")
]
RunsFolder = Annotated[Path, typer.Option("--out", help="Where runs are kept.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget an earlier run instead of going on with it.")]
KeepErrors = Annotated[
    bool, typer.Option("--keep-errors", help="Do not try queries again that failed in an earlier run.")
]
FailOnError = Annotated[bool, typer.Option("--fail-on-error", help="Stop at the first query that fails.")]
ImageSeconds = Annotated[
    float,
    typer.Option(
        "--image-seconds", min=0.0, help="What takes longer about one image fails, and the run goes on; 0: no limit."
    ),
]
ScenesAtOnce = Annotated[
    int,
    typer.Option("--scenes-at-once", min=1, max=32, help="So many go through the network together, where it can."),
]
OutOfDomain = Annotated[
    bool, typer.Option("--out-of-domain", help="Run also where the backbone knows nothing of the scenes.")
]
Leaderboards = Annotated[
    Path | None, typer.Option(help="Also put the results into DIR/<dataset>/ and make its README again.")
]
Full = Annotated[bool, typer.Option("--full", help="Every column of the table, however wide the terminal is.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why a test split is looked at, for its log.")]
SoftMaps = Annotated[bool, typer.Option("--soft-maps", help="Keep the maps that masks are cut from, too.")]


class Executor(StrEnum):
    local = "local"
    ray = "ray"


ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="NUMBER/OF",
        help="Answer only this share, such as 3/8; slurm: that of an array's task. prisbench merge joins them.",
    ),
]
ExecutorOption = Annotated[
    Executor | None,
    typer.Option("--executor", help="Share the run among processes of this machine, or actors of a Ray cluster."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="With --executor: how many. Default: one a GPU, else one for two cores."),
]


class ReferenceSetting(StrEnum):
    photos = "photos"
    photos_and_masks = "photos+masks"


Reference = Annotated[
    ReferenceSetting,
    typer.Option("--reference", help="What a method is given of a subject: its photos, or its masks in them, too."),
]


class DeafTo(StrEnum):
    relation = "relation"
    subject = "subject"


Deaf = Annotated[
    DeafTo | None,
    typer.Option(
        "--deaf",
        metavar="INPUT",
        help="Keep an input from the method: what texts say of place (relation), or the subject's photos (subject).",
    ),
]
Seeds = Annotated[list[int], typer.Option("--seed", help="Everything random follows from it; several: 0 1 2.")]


def one_name(given: str | None, option: str | None, default: str | None = None) -> str:
    """A dataset's name, said once, with or without ``--dataset``.  Raises UsageError."""
    from prisbench.errors import UsageError

    if given is not None and option is not None:
        raise UsageError(f"name the dataset once: {given}, or --dataset {option}")
    named = given or option or default
    if named is None:
        raise UsageError("name a dataset: its folder or its name")
    return named


def check_noun(noun: str | None) -> None:
    """Raises UsageError for a noun that is no word; None is one that was not said."""
    from prisbench.errors import UsageError

    if noun is not None and (not noun.strip() or "\n" in noun):
        raise UsageError(f"--noun {noun!r} is no word; give the thing's class word, such as --noun mug")


def only_with(wanted: str, holds: object, **given: object) -> None:
    """Raises UsageError for options that were given, by their parameter's name, though what they need was not.

    Nothing a user says is passed over in silence.
    """
    from prisbench.errors import UsageError

    said = [f"--{name.replace('_', '-')}" for name, value in given.items() if value not in (None, False, [], ())]
    if said and not holds:
        raise UsageError(f"{', '.join(said)}: only with {wanted}; leave {'them' if len(said) > 1 else 'it'} out")


def with_tuned(
    file: Path | None, options: MethodOptions, concepts: list[str], reference: str
) -> tuple[MethodOptions, dict[str, Any] | None]:
    """The options with the settings of a file that ``tune`` wrote, and what a run's record says of it; None without.

    Raises UsageError for several concepts, and as ``tuning.file.for_a_run``.
    """
    if file is None:
        return options, None
    from prisbench.errors import UsageError
    from prisbench.tuning.file import for_a_run

    if len(concepts) > 1:
        raise UsageError("--settings-file: its settings were tuned with one --concept; give that, or none")
    return for_a_run(file, dataclasses.replace(options, concept=concepts[0] if concepts else None), reference)


class SeveralValues(typer.core.TyperCommand):
    """A command without arguments, so that what follows an option that may be repeated can only be more of its values:
    ``--seed 0 1 2`` is ``--seed 0 --seed 1 --seed 2``.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args, ("--seed", "--concept", "--learner", "--subject", "--query")))


def spread(args: list[str], options: tuple[str, ...]) -> list[str]:
    """The arguments with the name of these options before each of their values."""
    spread_out: list[str] = []
    name, taken = "", False
    for arg in args:
        if name and taken and not arg.startswith("-"):
            spread_out += [name, arg]
            continue
        if name and not taken:
            taken = True
        else:
            name, equals, _ = arg.partition("=")
            name, taken = (name, bool(equals)) if name in options else ("", False)
        spread_out.append(arg)
    return spread_out
