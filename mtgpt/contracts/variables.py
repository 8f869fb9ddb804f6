"""The closed vocabulary of what an observation can measure: unit, range, how it aggregates."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mtgpt.contracts.document import VERSION, one_error
from mtgpt.contracts.positions import read_yaml
from mtgpt.errors import ContractError, NotFound
from mtgpt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "variables.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One measurable quantity.

    Attributes:
        name: Its name in ``observation.variable``.
        unit: Unit of its values; ``1`` for shares.
        description: What is measured, for people.
        minimum: Least plausible value; ``-inf`` where there is none.
        maximum: Greatest plausible value; ``inf`` where there is none.
        aggregate: How values of several spots (or of several steps) become one.
        counted: No row inside the covered time means zero, not missing.
    """

    name: str
    unit: str
    description: str
    minimum: float
    maximum: float
    aggregate: Literal["sum", "mean"]
    counted: bool

    def facts(self) -> dict[str, Any]:
        """The variable as JSON values; a bound that is not there is null."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return {key: None if isinstance(value, float) and math.isinf(value) else value for key, value in values.items()}


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: str = Field(min_length=1)
    description: str = Field(min_length=1)
    minimum: float | None
    maximum: float | None
    aggregate: Literal["sum", "mean"]
    counted: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> _Entry:
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError("minimum must be below maximum")
        return self


class _Vocabulary(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[str, Field(pattern=VERSION)]
    variables: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], _Entry] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A version of the vocabulary."""

    version: str
    variables: Mapping[str, Variable]


def read_vocabulary(path: Path) -> Vocabulary:
    """Reads a vocabulary file.

    Raises:
        ContractError: The file is malformed; the error names line, key, what was got and what was expected.
    """
    located = read_yaml(path)
    try:
        read = _Vocabulary.model_validate(located.data)
    except ValidationError as error:
        raise one_error(error, located) from None
    return Vocabulary(
        version=read.version,
        variables={
            name: Variable(
                name=name,
                unit=entry.unit,
                description=entry.description,
                minimum=-math.inf if entry.minimum is None else entry.minimum,
                maximum=math.inf if entry.maximum is None else entry.maximum,
                aggregate=entry.aggregate,
                counted=entry.counted,
            )
            for name, entry in read.variables.items()
        },
    )


def variables(folder: Path | None = None) -> dict[str, Variable]:
    """The vocabulary by name, in the file's order.

    Args:
        folder: Folder of the contracts; the settings' own if not given.

    Raises:
        ContractError: The file is missing or malformed.
    """
    path = (folder or settings().contracts) / FILE
    return dict(_read(path, _stamp(path)).variables)


def variable(name: str, folder: Path | None = None) -> Variable:
    """One variable.

    Raises:
        NotFound: The vocabulary does not have it.
    """
    known = variables(folder)
    if name not in known:
        raise NotFound("There is no such variable", where=FILE, got=name, expected=", ".join(known))
    return known[name]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise ContractError("The vocabulary cannot be read", where=path, got=error.strerror) from error
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=8)
def _read(path: Path, stamp: tuple[int, int]) -> Vocabulary:
    # The stamp is part of the cache's key: an edited file is read anew.
    del stamp
    return read_vocabulary(path)
