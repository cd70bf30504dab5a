"""Commands about scores: do two implementations agree, and how fast is ours?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prisbench.errors import DataError, UsageError
from prisbench.runtime.console import Format, OutputFormat, say


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
    say(record, format, "\n".join(score.render(record)))
