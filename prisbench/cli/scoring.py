"""Commands about scores: do two implementations agree, how fast is ours, how sure are intervals?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prisbench.cli.bars import say_table
from prisbench.cli.options import Full
from prisbench.errors import DataError, UsageError
from prisbench.runtime.console import Format, OutputFormat, progress_bar, say


def conformance(
    answers: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Another implementation's answers. Without: prints the golden cases."),
    ] = None,
    format: OutputFormat = Format.text,
) -> None:
    """Compare another implementation of the metrics with golden cases (docs/metrics.md)."""
    from prisbench.conformance import cases
    from prisbench.conformance.check import differences, read_answers

    if answers is None:
        typer.echo(cases.text(), nl=False)
        return
    golden = cases.load()
    expected = cases.expected(golden)
    lines = differences(read_answers(answers, expected), expected)
    spec, total = golden["metric_spec"], sum(len(numbers) for part in expected.values() for numbers in part.values())
    record = {"metric_spec": spec, "numbers": total, "differences": lines}
    say(record, format, "\n".join(lines or [f"all {total} numbers agree with metric spec {spec}"]))
    if lines:
        raise DataError(f"{answers}: {len(lines)} of {total} numbers differ from metric spec {spec}")


def bench_score(
    n: Annotated[int, typer.Option("--n", help="Predictions to score.")] = 100_000,
    workers: Annotated[int, typer.Option("--workers", help="Processes.")] = 2,
    reference: Annotated[
        int, typer.Option("--reference", help="Predictions for torchmetrics and pycocotools; 0: do not compare.")
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", help="The masks follow from it.")] = 0,
    format: OutputFormat = Format.text,
) -> None:
    """Time the scoring of predictions at 480 x 640, all metrics, against torchmetrics and pycocotools."""
    from prisbench.bench import score

    if n < 1 or workers < 1 or reference < 0:
        raise UsageError(f"--n {n}, --workers {workers}, --reference {reference}: at least 1, 1 and 0")
    record = score.bench_score(n, workers, reference, seed)
    say_table(record, format, "\n".join(score.render(record)))


def bench_uncertainty(
    draws: Annotated[int, typer.Option("--draws", min=100, help="Draws of the bootstrap.")] = 10_000,
    subjects: Annotated[int, typer.Option("--subjects", help="Subjects.")] = 48,
    queries: Annotated[int, typer.Option("--queries", help="Queries, two an image.")] = 2500,
    methods: Annotated[int, typer.Option("--methods", min=1, help="Methods.")] = 15,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Learner seeds of each.")] = 3,
    scipy_draws: Annotated[
        int, typer.Option("--scipy", min=0, help="Draws of all levels that scipy makes; 0: do not compare.")
    ] = 200,
    format: OutputFormat = Format.text,
) -> None:
    """Time the hierarchical bootstrap against scipy.stats.bootstrap given the same estimate."""
    from prisbench.bench import uncertainty

    size = uncertainty.Size(subjects, queries, methods, seeds)
    if wrong := uncertainty.check_size(size):
        raise UsageError(wrong)
    record = uncertainty.bench_uncertainty(size, draws, scipy_draws)
    say_table(record, format, "\n".join(uncertainty.render(record)))


def bench_coverage(
    samples: Annotated[int, typer.Option("--samples", min=10, help="Samples of each cell.")] = 2000,
    draws: Annotated[int, typer.Option("--draws", min=100, help="Draws of each bootstrap.")] = 1000,
    subjects: Annotated[
        list[int], typer.Option("--subjects", help="Subjects of a sample; repeatable. Default: 24 and 48.")
    ] = [24, 48],  # noqa: B006
    rate: Annotated[
        list[float], typer.Option("--rate", help="The true rate; repeatable. Default: seven, 0.05 to 0.95.")
    ] = [],  # noqa: B006
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="Also where subjects differ more, and with fewer images.")
    ] = False,
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """Simulate how often 95 % intervals of each kind hold the truth (docs/metrics.md has the table)."""
    from prisbench.bench import coverage
    from prisbench.statistics import FEWEST_SUBJECTS

    few = [n for n in subjects if n < FEWEST_SUBJECTS]
    far = [each for each in rate if not 0.01 <= each <= 0.99]
    if few or far:
        raise UsageError(
            f"--subjects {few[0]}: at least {FEWEST_SUBJECTS}" if few else f"--rate {far[0]}: 0.01 to 0.99"
        )
    worlds = (*coverage.WORLDS, *(coverage.ELSEWHERE if elsewhere else ()))
    rates = rate or coverage.RATES
    cells = []
    with progress_bar("cells") as step:
        for cell in coverage.table(worlds, subjects, rates, samples, draws):
            cells.append(cell)
            step(len(cells), len(worlds) * len(subjects) * len(rates))
    say_table(coverage.records(cells), format, coverage.markdown(cells), full)
