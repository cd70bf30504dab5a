"""What is installed, which device there is, which extras are missing: the answer to "does it work here?".

Knows: how to query the machine.  Does not know: how anything works; it loads no library unless ``ask_torch``.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import prisbench
from prisbench.runtime.files import cache_folder

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "datasets",
    "safetensors",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "pillow",
    "pycocotools",
    "typer",
)

EXTRAS = {
    "crf": "pydensecrf2",
    "heic": "pillow-heif",
    "croissant": "mlcroissant",
    "network-free": "opencv-python-headless",
    "plot": "matplotlib",
    "ray": "ray",
}
"""Extra -> the package it brings; the sum of what works without is in the README."""

EMBEDDED = Path(__file__).parent / "embedded" / "weights"


def report(ask_torch: bool = False) -> dict[str, Any]:
    """A record that fits JSON: versions, device, machine, extras, backbone, cache, and ``problems`` (empty: all well).

    ``ask_torch`` loads torch (seconds) to find the device; without it ``device`` is null.  Sizes are in bytes, null
    where the system has no number.
    """
    packages = {name: _version(name) for name in PACKAGES}
    extras = {
        extra: {
            "package": package,
            "version": _version(package),
            "install": f"pip install 'prisbench[{extra}]'",
        }
        for extra, package in EXTRAS.items()
    }
    cache = cache_folder()
    cache_writable = _writable(cache)
    backbone = EMBEDDED / "model_index.json"
    problems = [f"{name} is not installed: pip install prisbench" for name, version in packages.items() if not version]
    if not cache_writable:
        problems.append(f"the cache folder {cache} cannot be written; set PRISBENCH_HOME to one that can")
    if not backbone.is_file():
        problems.append(f"no embedded backbone in {EMBEDDED}; name another: --backbone ID_OR_FOLDER")
    return {
        "prisbench": prisbench.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": packages,
        "extras": extras,
        "device": _device() if ask_torch and packages["torch"] else None,
        "cores": _cores(),
        "memory_bytes": _memory("SC_PHYS_PAGES"),
        "memory_free_bytes": _memory("SC_AVPHYS_PAGES"),
        "disk_free_bytes": shutil.disk_usage(_nearest(cache)).free,
        "backbone": {
            "folder": str(EMBEDDED),
            "present": backbone.is_file(),
            "bytes": sum(file.stat().st_size for file in EMBEDDED.rglob("*") if file.is_file()),
        },
        "cache": {"folder": str(cache), "writable": cache_writable},
        "problems": problems,
    }


def render(record: dict[str, Any]) -> str:
    """The report for people: one fact a line, what is wrong at the end."""
    backbone, cache = record["backbone"], record["cache"]
    rows = [
        ("prisbench", record["prisbench"]),
        ("python", f"{record['python']} on {record['system']}"),
        *((name, version or "missing") for name, version in record["packages"].items()),
        ("device", record["device"] or "not queried"),
        ("cores", str(record["cores"])),
        ("memory", f"{_gib(record['memory_bytes'])}, {_gib(record['memory_free_bytes'])} free"),
        ("disk", f"{_gib(record['disk_free_bytes'])} free"),
        ("backbone", f"embedded, {backbone['bytes'] / 1e6:.1f} MB" if backbone["present"] else "none embedded"),
        ("cache", f"{cache['folder']} ({'writable' if cache['writable'] else 'not writable'})"),
    ]
    for extra, fact in record["extras"].items():
        rows.append((f"[{extra}]", f"{fact['package']} {fact['version'] or 'missing: ' + fact['install']}"))
    lines = [f"{name:<14}{value}" for name, value in rows]
    lines += ["", *(record["problems"] or ["all well"])]
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> str:
    """The device that is used when none is named."""
    import torch

    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _cores() -> int:
    """Those this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory(pages: str) -> int | None:
    try:
        return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _writable(folder: Path) -> bool:
    nearest = _nearest(folder)
    effective = os.access in os.supports_effective_ids
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK, effective_ids=effective)
