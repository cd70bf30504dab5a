"""A folder belongs to one run: what decides the run's result stands in its ``run.json``.

Knows: how a folder of another run is refused.  Does not know: what decides a result, what else a
folder holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prisbench.runtime.files import write_errors
from prisbench.runtime.resume import claim


def claim_folder(folder: Path, record: Mapping[str, Any]) -> None:
    """Write what decides a run into the folder's run.json, so that the same command goes on and no
    other mixes with it.

    Raises DataError, naming what differs, when the folder holds another run; WriteError.
    """
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    claim(
        folder / "run.json",
        record,
        lambda changed: f"{folder} holds another run ({min(changed).words}); choose another folder",
    )
