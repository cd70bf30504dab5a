"""How and on what a run was made: the command, the state of the code, the machine, the packages.

None of it decides a run's answers by the rules (``runtime.identity`` does); it is what a reader asks when two runs
that should agree do not.

Knows: this process, this machine, git.  Does not know: methods, datasets, results.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

PACKAGES = (
    *("torch", "diffusers", "transformers", "tokenizers", "peft", "safetensors", "numpy", "scipy", "pillow"),
    *("pycocotools", "pydensecrf2"),
)
"""Packages that numbers pass through."""

ELSEWHERE = ("--out", "--leaderboards", "--format", "--shard", "--executor", "--workers")
"""Options that say where results go, and who makes them, and change none of them."""

BY_CONTENT = "--settings-file"
"""Of such a file a run records the content (``tuning.file``), so where it lay says nothing."""


@dataclass(frozen=True)
class Environment:
    """Where it ran; ``torch`` is None where torch is not installed."""

    python: str
    torch: str | None
    numpy: str
    machine: str
    cpu_count: int


@dataclass(frozen=True)
class Provenance:
    """How a run came about.  ``command`` is None for a run made from Python.

    ``commit`` and ``dirty``: of the git checkout that the package's code lies in, None for an installed package.
    ``processor`` and ``gpu``: their names, None where unknown or unused.  ``packages``: versions, None where not
    installed.  ``reason``: why a test split was looked at, as its user says.
    """

    command: str | None
    commit: str | None
    dirty: bool | None
    processor: str | None
    gpu: str | None
    packages: Mapping[str, str | None]
    reason: str | None = None


def current_environment() -> Environment:
    """This machine, without importing torch."""
    return Environment(
        python=platform.python_version(),
        torch=_version("torch"),
        numpy=np.__version__,
        machine=platform.machine(),
        cpu_count=os.cpu_count() or 1,
    )


def current_provenance(reason: str | None = None) -> Provenance:
    """This process, without importing torch."""
    commit, dirty = _checkout(Path(__file__).parent)
    return Provenance(
        command=_command(sys.argv),
        commit=commit,
        dirty=dirty,
        processor=_processor(),
        gpu=_gpu(),
        packages={name: _version(name) for name in PACKAGES},
        reason=reason,
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _command(argv: Sequence[str]) -> str | None:
    """The command line as one can type it, without where its results went (``ELSEWHERE``); the user's home is ``~``,
    and a file that is recorded by its content has its name alone where its path begins at the root.
    """
    name = Path(argv[0]).name if argv else ""
    if name == "__main__.py":
        name = "prisbench"
    if name != "prisbench":
        return None
    words: list[str] = []
    skip, before = False, ""
    for word in argv[1:]:
        name, equals, _ = word.partition("=")
        if not skip and name not in ELSEWHERE:
            words.append(_portable(word, before))
        skip, before = not skip and name in ELSEWHERE and not equals, word
    return shlex.join(["prisbench", *words])


def _portable(word: str, before: str) -> str:
    """A word of a command without where this machine has its files."""
    name, equals, value = word.partition("=")
    if before == BY_CONTENT and Path(word).is_absolute():
        return Path(word).name
    if name == BY_CONTENT and equals and Path(value).is_absolute():
        return f"{name}={Path(value).name}"
    home = str(Path.home())
    return word.replace(home, "~") if len(home) > 1 else word


def _checkout(package: Path) -> tuple[str | None, bool | None]:
    """The commit that a folder of code is at and whether files were changed since; (None, None) outside of git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(package), *words], capture_output=True, text=True, timeout=20)
        if done.returncode:
            raise OSError(done.stderr)
        return done.stdout.strip()

    with suppress(OSError, subprocess.TimeoutExpired):
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    return None, None


def _processor() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _gpu() -> str | None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return None
