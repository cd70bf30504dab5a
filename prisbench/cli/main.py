"""The command line: which commands there are, and what becomes of a mistake.

Nothing heavy is imported before a command runs, so ``--help`` answers at once.  A mistake a user can mend is one line
on stderr and exit code 1; an interruption says how to go on and exits with 130; a run in which some queries failed
exits with 2, as does a command line that makes no sense.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated, NoReturn

import typer

from prisbench.cli import (
    bench,
    ceilings,
    cluster,
    concepts,
    datasets,
    evaluate,
    leaderboard,
    plot,
    predict,
    project,
    rows,
    scoring,
    segment,
    trial,
    tune,
    uncertainty,
    wsss,
)
from prisbench.cli.options import SeveralValues
from prisbench.errors import PrisbenchError
from prisbench.runtime.console import INTERRUPTED, tell
from prisbench.runtime.devices import let_waiting_threads_sleep

app = typer.Typer(
    name="prisbench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(wanted: bool) -> bool:
    if wanted:
        from prisbench import __version__

        print(f"prisbench {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def prisbench(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Personalized referring image segmentation: learn a thing from photos, find it by text, compare methods."""


app.command("learn-concept", cls=SeveralValues)(concepts.learn_concept)
app.command("evaluate", cls=SeveralValues)(evaluate.evaluate)
app.command("predict", cls=SeveralValues)(predict.predict)
app.command("score")(predict.score)
app.command("merge")(cluster.merge)
app.command("plan", cls=SeveralValues)(cluster.plan)
app.command("try")(trial.try_method)
app.command("tune")(tune.tune)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("uncertainty")(uncertainty.uncertainty)
app.command("plot")(plot.plot)
app.command("ceilings")(ceilings.ceilings)
app.command("compare")(rows.compare)
app.command("reproduce")(rows.reproduce)
app.command("submit")(rows.submit)
app.command("retract")(rows.retract)
app.command("export")(rows.export)
app.command("segment")(segment.segment)
app.command("presets")(segment.show_presets)
app.command("demo")(project.demo)
app.command("doctor")(project.doctor)
app.command("train-backbone")(project.train_backbone)
app.command("train-rival")(project.train_rival)
app.command("conformance")(scoring.conformance)
bench.app.command("backbones")(project.bench_backbones)
bench.app.command("transformers")(project.bench_transformers)
bench.app.command("score")(scoring.bench_score)
bench.app.command("uncertainty")(scoring.bench_uncertainty)
bench.app.command("coverage")(scoring.bench_coverage)
app.add_typer(bench.app, name="bench")
app.add_typer(concepts.app, name="concept")
app.add_typer(wsss.app, name="wsss")
app.add_typer(datasets.app)


def main() -> None:
    """Entry point of the ``prisbench`` command."""
    let_waiting_threads_sleep()
    sys.argv[1:] = map(at_home, sys.argv[1:])
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold what no encoding knows
    try:
        app()
    except PrisbenchError as error:
        tell(f"error: {' '.join(str(error).split())}")
        sys.exit(1)
    except MemoryError as error:
        tell(f"error: out of memory ({' '.join(str(error).split()) or 'no size given'}); close other programs")
        sys.exit(1)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as done:
        if done.code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt inside a command
            _interrupted()
        raise
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        _not_reached(error)


def at_home(argument: str) -> str:
    """``~/x``, ``--out=~/x`` and ``--set nouns=~/x`` as a shell would write out a ``~`` that begins a word."""
    found = re.fullmatch(r"(-{0,2}[A-Za-z][\w.-]*=|)(~[\w.-]*(?:/.*)?)", argument, re.DOTALL)
    return found[1] + os.path.expanduser(found[2]) if found else argument


def _not_reached(error: OSError) -> NoReturn:
    """Says in one line what the system did not allow: a name that is too long, a folder that may not be looked into."""
    where = f"{str(error.filename)[:200]}: " if error.filename else ""
    why = " ".join((error.strerror or str(error) or type(error).__name__).split())
    tell(f"error: {where}{why}; see to that, or name another place")
    sys.exit(1)


def _interrupted() -> NoReturn:
    tell("interrupted; what is finished is kept, and the same command goes on from there")
    sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
