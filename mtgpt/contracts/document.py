"""A contract file as a person writes it: the part of the Open Data Contract Standard 3.1 that the lake understands.

Source: Open Data Contract Standard v3.1.0 (Bitol, LF AI & Data), sections *fundamentals*, *schema* and *data quality*.
Keys that the standard has and the lake does not use (servers, SLA, support, roles, price, team, tags) are accepted and
left alone; a key that the standard does not have is refused, because it is a typing error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mtgpt.contracts.positions import Located, read_yaml
from mtgpt.errors import ContractError

if TYPE_CHECKING:
    from pathlib import Path

VERSION = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$"
_NAME = r"^[a-z][a-z0-9_]*$"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CustomProperty(_Part):
    """One key and value outside the standard; ours are unit, crs, timeZone."""

    id: str | None = None
    property: str
    value: Any
    description: str | None = None


class Options(_Part):
    """Bounds on a column's values (``logicalTypeOptions``)."""

    minimum: float | str | None = None
    maximum: float | str | None = None
    pattern: str | None = None
    minLength: int | None = Field(default=None, ge=0)  # noqa: N815 — the standard's own name
    maxLength: int | None = Field(default=None, ge=1)  # noqa: N815
    multipleOf: float | None = Field(default=None, gt=0)  # noqa: N815
    format: str | None = None
    timezone: bool | None = None
    defaultTimezone: str | None = None  # noqa: N815


class Quality(_Part):
    """A quality rule: ``library`` with metric invalidValues (closed list of values), or ``custom`` with our engine."""

    id: str | None = None
    name: str | None = None
    type: Literal["library", "custom", "text"] = "library"
    description: str | None = None
    dimension: (
        Literal["accuracy", "completeness", "conformity", "consistency", "coverage", "timeliness", "uniqueness"] | None
    ) = None
    severity: str | None = None
    metric: Literal["invalidValues"] | None = None
    arguments: dict[str, Any] | None = None
    mustBe: float | None = None  # noqa: N815
    engine: Literal["mtgpt"] | None = None
    implementation: dict[str, Any] | None = None
    unit: str | None = None
    businessImpact: str | None = None  # noqa: N815


class Property(_Part):
    """One column."""

    id: str | None = None
    name: str = Field(pattern=_NAME)
    businessName: str | None = None  # noqa: N815
    logicalType: Literal["string", "date", "timestamp", "integer", "number"]  # noqa: N815
    physicalType: str  # noqa: N815
    description: str = Field(min_length=1)
    required: bool = False
    primaryKey: bool = False  # noqa: N815
    primaryKeyPosition: int = -1  # noqa: N815
    logicalTypeOptions: Options = Options()  # noqa: N815
    classification: str | None = None
    examples: list[Any] | None = None
    tags: list[str] | None = None
    quality: list[Quality] = []
    customProperties: list[CustomProperty] = []  # noqa: N815


class Table(_Part):
    """The one table of a contract (a ``schema`` item)."""

    id: str | None = None
    name: str = Field(pattern=_NAME)
    logicalType: Literal["object"] = "object"  # noqa: N815
    physicalType: Literal["table"] = "table"  # noqa: N815
    physicalName: str | None = None  # noqa: N815
    description: str = Field(min_length=1)
    dataGranularityDescription: str | None = None  # noqa: N815
    tags: list[str] | None = None
    properties: list[Property] = Field(min_length=1)
    quality: list[Quality] = []
    customProperties: list[CustomProperty] = []  # noqa: N815


class Description(_Part):
    """What the data are for."""

    purpose: str | None = None
    usage: str | None = None
    limitations: str | None = None
    customProperties: list[CustomProperty] = []  # noqa: N815
    authoritativeDefinitions: list[dict[str, Any]] | None = None  # noqa: N815


class Document(_Part):
    """A contract file."""

    apiVersion: Literal["v3.1.0"]  # noqa: N815
    kind: Literal["DataContract"]
    id: str = Field(min_length=1)
    name: str = Field(pattern=_NAME)
    version: Annotated[str, Field(pattern=VERSION)]
    status: Literal["proposed", "draft", "active", "deprecated", "retired"]
    domain: str | None = None
    dataProduct: str | None = None  # noqa: N815
    tenant: str | None = None
    description: Description = Description()
    # The standard allows several tables per contract; one table per file keeps versions and hashes per table.
    tables: list[Table] = Field(alias="schema", min_length=1, max_length=1)
    tags: list[str] | None = None
    servers: list[dict[str, Any]] | None = None
    support: list[dict[str, Any]] | None = None
    price: dict[str, Any] | None = None
    team: dict[str, Any] | list[dict[str, Any]] | None = None
    roles: list[dict[str, Any]] | None = None
    slaProperties: list[dict[str, Any]] | None = None  # noqa: N815
    authoritativeDefinitions: list[dict[str, Any]] | None = None  # noqa: N815
    customProperties: list[CustomProperty] = []  # noqa: N815
    contractCreatedTs: Any = None  # noqa: N815


def read_document(path: Path) -> tuple[Document, Located]:
    """Reads and checks the shape of a contract file.

    Raises:
        ContractError: The file is malformed; the error names ``file:line: key``, what was got, what was expected.
    """
    located = read_yaml(path)
    try:
        return Document.model_validate(located.data), located
    except ValidationError as error:
        raise one_error(error, located) from None


def one_error(error: ValidationError, located: Located) -> ContractError:
    """The first fault of a pydantic error as one sentence; the number of further faults goes into the next step."""
    faults = error.errors(include_url=False)
    first = faults[0]
    keys = tuple(part for part in first["loc"] if part not in ("[key]", "float", "str", "list", "dict"))
    if first["type"] == "missing":
        what, got = "A key is missing", "nothing"
    elif first["type"] == "extra_forbidden":
        what, got = "There is no such key", keys[-1]
    else:
        what, got = "The value is not allowed", first["input"]
    rest = f"there are {len(faults) - 1} more faults in this file" if len(faults) > 1 else None
    return ContractError(what, where=located.where(keys), got=got, expected=_expected(first), next_step=rest)


def _expected(fault: Any) -> str:
    if fault["type"] == "missing":
        return f"a value for {fault['loc'][-1]}"
    if fault["type"] == "extra_forbidden":
        return "a key of the Open Data Contract Standard that the lake understands"
    if fault["type"] == "string_pattern_mismatch":
        return f"text like {fault['ctx']['pattern']}"
    message = str(fault["msg"])
    for opening in ("Input should be ", "Value error, "):
        message = message.removeprefix(opening)
    return message
