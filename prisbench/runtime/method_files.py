"""Python files of methods as modules: each with what lies in its own folder, and as it is now.

Knows: Python's table of modules and its path.  Does not know: what a method is.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Collection
from pathlib import Path
from types import ModuleType

from prisbench.errors import DataError
from prisbench.runtime.source_code import is_installed

_BEFORE: dict[Path, set[str]] = {}
"""A method's folder -> the modules that were there before its first method was loaded: they are the program's."""


def module_of(path: Path) -> ModuleType:
    """A Python file, run as ``python FILE`` would: what lies in its folder can be imported, also relatively.

    It is compiled anew each time: Python's own cache takes a file for the old one when it has the same size and was
    written in the same second.  Raises DataError for what it raises.
    """
    folder = path.resolve().parent
    label = f"prisbench_method_{folder.name}_{path.stem}".replace("-", "_")
    _forget_modules_beside_methods()
    before = _BEFORE.setdefault(folder, set(sys.modules))
    spec = importlib.util.spec_from_file_location(label, path, submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    written = sys.dont_write_bytecode
    before.discard(label)
    sys.modules[label] = module  # where dataclasses look up the module of a class
    others = [place for place in sys.path if place not in map(str, _BEFORE)]
    sys.path[:] = [str(folder), *others]
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[label]
        raise DataError(f"{path} cannot be loaded: {type(error).__name__}: {error}{_cure(error)}") from error
    finally:
        sys.dont_write_bytecode = written
        # Last, for what it imports later: a file called like a module of Python's own would stand in that one's place.
        sys.path[:] = [*(place for place in sys.path if place != str(folder)), str(folder)]
    return module


def _cure(error: BaseException) -> str:
    """What to do about a package that is not there."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    if package == "prisbench":
        return ""
    return f"; install {package}, or put a file of that name beside the method's"


def _forget_modules_beside_methods() -> None:
    """What earlier methods imported from their folders is imported again: it may have changed, and the next method has
    modules of the same names in its own.
    """
    for name, file in files_of(sys.modules).items():
        if any(file.is_relative_to(folder) and name not in before for folder, before in _BEFORE.items()):
            parts = name.split(".")
            for n in range(len(parts), 0, -1):  # also the folders above, which keep what was imported from them
                if all(".".join(parts[:n]) not in before for before in _BEFORE.values()):
                    sys.modules.pop(".".join(parts[:n]), None)


def files_of(modules: Collection[str]) -> dict[str, Path]:
    """The files of loaded modules that are neither installed nor prisbench's."""
    found = {}
    for name in tuple(modules):
        place = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(place, str) and not is_installed(Path(place)):
            found[name] = Path(place).resolve()
    return found
