"""JSON, YAML and text of unknown origin to plain values, or one line saying which file cannot be read, and why.

Knows: encodings, sizes, depths.  Does not know: which fields a set has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from prisbench.datasets.sources.reading.files import file_bytes, in_one_line
from prisbench.errors import DataError

MOST_JSON_BYTES = 2**30
"""1 GiB: COCO's largest file has 450 MB.  Parsed it takes several times as much memory."""

MOST_YAML_BYTES = 2**20
"""1 MiB: YAML is written by hand here."""

MOST_YAML_DEPTH = 50


def json_file(path: Path, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """The value in a JSON file, UTF-8 with or without a byte order mark.

    Raises DataError naming the file when it is missing, larger than ``most_bytes``, not UTF-8, not JSON, or nested too
    deep to be read (some 1,000).  NaN and Infinity are let through: whoever uses a number looks at it.
    """
    text = text_file(path, most_bytes)
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"{path} is nested too deep to be read; no set needs that") from None
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON ({in_one_line(error).split(';')[0]}); it was cut short or edited"
        ) from None


def yaml_file(path: Path, most_bytes: int = MOST_YAML_BYTES) -> Any:
    """The plain value in a YAML file: no tags that make objects, no aliases (a few of them can unfold to gigabytes).

    Raises DataError as ``json_file``.
    """
    text = text_file(path, most_bytes)
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent):
                raise DataError(f"{path}, line {line}: *{event.anchor} stands for another value; write the value out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_YAML_DEPTH:
                raise DataError(f"{path}, line {line} is nested too deep to be read ({MOST_YAML_DEPTH} are the most)")
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataError(f"{path}, line {line} is not plain YAML ({error.problem})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{path} is not YAML that can be read ({in_one_line(error)})") from None


def text_file(path: Path, most_bytes: int) -> str:
    """The text in a UTF-8 file, with or without a byte order mark.

    Raises DataError naming the file when it is missing, empty, larger than ``most_bytes`` or not UTF-8.
    """
    try:
        return file_bytes(path, most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
