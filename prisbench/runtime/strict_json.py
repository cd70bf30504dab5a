"""JSON without surprises: values are of the kinds that a model names, and a number is a number.

Knows: how a mistake is told in one line.  Does not know: what is in the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError

from prisbench.errors import DataError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Strict(BaseModel):
    """Values are of exactly the kinds that a subclass names, but whole numbers pass as floats; infinity is no number.

    A validator raises ValueError with what it expects, like "a date such as 2026-01-31".
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Strict)

_WANTED = {
    **{f"{kind.__name__}_type": kind.__name__ for kind in (int, float, bool, dict, list)},
    **{"string_type": "str", "dataclass_type": "dict", "model_type": "dict"},
}


def parse(data: bytes, where: str) -> dict[str, Any]:
    """The object in JSON.  Raises DataError, naming the place, for what is none and for NaN."""

    def refuse(name: str) -> NoReturn:
        raise DataError(f"{where}: holds {name}, which is not a number; undefined values are null")

    try:
        raw = json.loads(data.decode(), parse_constant=refuse)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where}: {_no_json(error)}") from None
    if not isinstance(raw, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(raw).__name__}")
    return cast(dict[str, Any], raw)


def read(model: type[Model], data: bytes | Mapping[str, Any], where: str) -> Model:
    """What JSON, or the object parsed from it, holds.  Raises DataError for the first thing that ``model`` forbids, and
    as ``parse``.

    From JSON alone, dataclasses in the model are read, too.
    """
    try:
        return model.model_validate_json(data) if isinstance(data, bytes) else model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"] and isinstance(data, bytes):
            parse(data, where)
        raise DataError(f"{where}: {_complaint(model, first)}") from None


def dump(value: Any, where: str, sort: bool = False) -> str:
    """JSON in one line.  Raises DataError, naming the place, for what JSON cannot hold."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: cannot be written as JSON ({error}); undefined values are None") from None


def _no_json(why: object) -> str:
    return f"not JSON ({why}); the file is corrupt, make it again"


def _complaint(model: type[Strict], error: ErrorDetails) -> str:
    """The key, its value, and what is wanted."""
    kind, value, place = error["type"], error["input"], error["loc"]
    if not place:  # such as half a surrogate pair, which ``parse`` lets pass
        return _no_json(error["msg"])
    if kind == "missing":
        return f"the key {place[-1]!r} is missing; the file is incomplete, make it again"
    if kind == "finite_number":
        return f"{place[-1]!r} is {value!r}, which is not a number; undefined values are null"
    wanted = str(error["ctx"]["error"]) if kind == "value_error" else _WANTED.get(kind, error["msg"])
    nullable = " or null" if type(None) in get_args(_kinds(model, place)) else ""
    return f"{place[-1]!r} is {value!r}, expected {wanted}{nullable}"


def _kinds(model: Any, place: Sequence[str | int]) -> Any:
    """What may stand at a place, through the dataclasses on the way."""
    for key in place:
        record = next((each for each in get_args(model) if each is not type(None)), model)
        model = get_type_hints(record).get(str(key)) if isinstance(record, type) else None
    return model
