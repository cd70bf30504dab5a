"""The command line called in this process."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest

from prisbench.cli import main as cli


class Answer(NamedTuple):
    code: int
    out: str
    err: str


def called(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object) -> Answer:
    """``prisbench ARGUMENTS``: its exit code, and what it printed."""
    monkeypatch.setattr(sys, "argv", ["prisbench", *map(str, arguments)])
    monkeypatch.setattr(sys.modules["__main__"], "__package__", "", raising=False)
    capfd.readouterr()
    code = 0
    try:
        cli.main()
    except SystemExit as done:
        code = int(done.code or 0)
    return Answer(code, *capfd.readouterr())
