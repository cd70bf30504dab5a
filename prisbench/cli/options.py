"""The options that several commands have, and how one that may be repeated is written once.

Knows: typer.  Does not know: what any command does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer


class Dtype(StrEnum):
    fp32 = "fp32"
    bf16 = "bf16"


Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a number, e.g. localizer.tau=0.3; repeatable."),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="ID_OR_FOLDER",
        help="A diffusers pipeline: hub id or folder. Default: the embedded one, which knows Tabletop only.",
    ),
]


Seeds = Annotated[list[int], typer.Option("--seed", help="Everything random follows from it; several: 0 1 2.")]


class SeveralValues(typer.core.TyperCommand):
    """A command without arguments, so that what follows an option that may be repeated can only be more of its values:
    ``--seed 0 1 2`` is ``--seed 0 --seed 1 --seed 2``.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args, ("--seed", "--concept", "--learner")))


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
