from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import prisbench
from prisbench.doctor import EXTRAS, PACKAGES, render, report

ROOT = Path(__file__).parents[1]


def test_the_report_fits_json_and_names_what_is_installed() -> None:
    record = json.loads(json.dumps(report(), allow_nan=False))
    assert record["prisbench"] == prisbench.__version__
    assert record["packages"]["numpy"]
    assert record["device"] is None
    assert record["cores"] >= 1
    assert record["disk_free_bytes"] > 0
    assert record["cache"]["writable"]


def test_the_report_loads_no_torch_unless_asked() -> None:
    child = "import sys, prisbench.doctor as d; r = d.report({}); print('torch' in sys.modules, r['device'] is None)"
    for asked, expected in ((False, "False True"), (True, "True False")):
        done = subprocess.run(
            [sys.executable, "-c", child.format(asked)], check=True, capture_output=True, text=True, cwd=ROOT
        )
        assert done.stdout.strip() == expected


def test_the_extras_are_those_of_the_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {name: wants[0].split(">")[0] for name, wants in project["optional-dependencies"].items()}
    assert declared == {**EXTRAS, "dev": "beartype"}
    needed = {want.split(">")[0] for want in project["dependencies"]}
    assert set(PACKAGES) <= needed


def test_a_missing_extra_comes_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "crf", "no-such-package-here")
    record = report()
    assert record["extras"]["crf"]["version"] is None
    assert "no-such-package-here missing: pip install 'prisbench[crf]'" in render(record)


def test_what_is_wrong_stands_at_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("PRISBENCH_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("prisbench.doctor.EMBEDDED", tmp_path / "none")
    monkeypatch.setattr("prisbench.doctor.PACKAGES", ("no-such-package-here",))
    lines = render({**report(), "packages": {"torch": None}}).splitlines()
    assert lines[-3:] == [
        "no-such-package-here is not installed: pip install prisbench",
        f"the cache folder {tmp_path / 'file'} cannot be written; set PRISBENCH_HOME to one that can",
        f"no embedded backbone in {tmp_path / 'none'}; name another: --backbone ID_OR_FOLDER",
    ]
    assert render({**report(), "problems": []}).endswith("\n\nall well")


@pytest.mark.usefixtures("without_root")
def test_a_cache_folder_without_permission_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", "/etc/prisbench")
    assert not report()["cache"]["writable"]
