"""Everything that is wrong with a manifest, collected with line and key, raised once."""

from __future__ import annotations

import difflib
import json
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from mtgpt.errors import ManifestError
from mtgpt.ingest.pull.address import redacted
from mtgpt.ingest.yaml_document import YamlDocument, YamlFault, dotted, parse_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)
Keys = tuple[str | int, ...]

# A header may hold what its writer should have kept out of the file.
_NEVER_SHOWN = {"headers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: ``line`` from 1, ``key`` dotted, and the facts of :class:`~mtgpt.errors.MTGPTError`."""

    line: int
    key: str
    what: str
    got: Any = None
    expected: Any = None


class ManifestFaults(ManifestError):  # noqa: N818 - named for what it holds
    """All faults of one manifest: a line of text each."""

    def __init__(self, file: Path, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line))
        self._file = str(file)
        first = self.faults[0]
        super().__init__(first.what, where=self._where(first), got=first.got, expected=first.expected)

    def _where(self, fault: Fault) -> str:
        return f"{self._file}:{fault.line}" + (f": {fault.key}" if fault.key else "")

    def sentence(self) -> str:
        """A sentence per fault, a line each, in the order of the file."""
        return "\n".join(
            ManifestError(fault.what, where=self._where(fault), got=fault.got, expected=fault.expected).args[0]
            for fault in self.faults
        )

    def as_dict(self) -> dict[str, Any]:
        """The first fault's facts, and all of them under ``faults``."""
        faults = [
            {"line": fault.line, "key": fault.key}
            | ManifestError(fault.what, got=fault.got, expected=fault.expected).as_dict()
            for fault in self.faults
        ]
        return super().as_dict() | {"faults": faults}


class Faults:
    """The faults of one file so far.

    Args:
        file: The manifest.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._document: YamlDocument | None = None
        self._found: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def error(self) -> ManifestFaults:
        """What to raise."""
        return ManifestFaults(self._file, self._found)

    def read(self) -> YamlDocument:
        """Parses the file.

        Raises:
            ManifestFaults: It cannot be read, is not UTF-8, or is not YAML that we take.
        """
        try:
            self._document = parse_yaml(self._file.read_bytes().decode("utf-8-sig"))
        except OSError as error:
            self._found.append(Fault(line=1, key="", what=f"cannot be read: {error.strerror}"))
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self._found.append(Fault(line=line, key="", what="not UTF-8", got=hex(error.object[error.start])))
        except YamlFault as error:
            self._found.append(Fault(line=error.line, key=error.key, what=error.what))
        if self._document is None:
            raise self.error()
        return self._document

    def add(self, keys: Keys, what: str, *, got: Any = None, expected: Any = None) -> None:
        """Adds one fault at ``keys``."""
        line = 1 if self._document is None else self._document.line(keys)
        self._found.append(Fault(line=line, key=dotted(keys), what=what, got=got, expected=expected))

    def validate(self, model: type[M], value: Any, at: Keys = ()) -> M | None:
        """``value`` as ``model``; None, and a fault for each error, where it does not fit."""
        if not isinstance(value, dict):
            self.add(at, "not a mapping", got=_shown(value), expected="keys and values")
            return None
        try:
            # By way of JSON, so that a list is a tuple and a text a date while a text is still no number.
            return model.model_validate_json(as_json(value))
        except ValidationError as error:
            details = error.errors(include_url=False)
            for detail in details:
                # Items that failed are not counted: "at least one source" would be said of a list of one faulty source.
                inside = any(len(one["loc"]) > len(detail["loc"]) and _starts(one, detail) for one in details)
                if not (detail["type"] == "too_short" and inside):
                    self._add_detail(model, detail, at)
            return None

    def _add_detail(self, model: type[BaseModel], detail: ErrorDetails, at: Keys) -> None:
        keys = (*at, *detail["loc"])
        key = str(detail["loc"][-1]) if detail["loc"] else ""
        context = detail.get("ctx", {})
        got = None if _NEVER_SHOWN & set(map(str, keys)) else _shown(detail["input"])
        if detail["type"] == "extra_forbidden":
            known = _fields(model, detail["loc"][:-1])
            hint = nearest(key, known)
            self.add(keys, "unknown key", got=key, expected=hint or f"one of {', '.join(known)}")
        elif detail["type"] == "missing":
            owner = _model_at(model, detail["loc"][:-1])
            field = None if owner is None else owner.model_fields.get(key)
            self.add(keys, "missing", expected=None if field is None else field.description)
        elif detail["type"] == "refused":
            self.add(keys, detail["msg"], got=got, expected=context.get("expected"))
        else:
            expected = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            expected = expected.replace("String should match pattern", "text that matches")
            if isinstance(got, str) and detail["type"].endswith(("_type", "_parsing")):
                got = json.dumps(got)  # quotes show why 300 is no number
            self.add(keys, "wrong value", got=got, expected=expected)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be."""
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def as_json(value: Any) -> str:
    """Plain YAML values as JSON text for pydantic's JSON mode."""
    return json.dumps(value, default=str)


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if len(value) > 4 or any(isinstance(one, dict | list) for one in value) else value
    return redacted(value) if isinstance(value, str) and "://" in value else value


def _starts(detail: ErrorDetails, parent: ErrorDetails) -> bool:
    return detail["loc"][: len(parent["loc"])] == parent["loc"]


def _fields(model: type[BaseModel], keys: Keys) -> list[str]:
    owner = _model_at(model, keys)
    return [] if owner is None else list(owner.model_fields)


def _model_at(model: type[BaseModel], keys: Keys) -> type[BaseModel] | None:
    owner: type[BaseModel] | None = model
    for key in keys:
        if owner is not None and isinstance(key, str) and key in owner.model_fields:
            owner = _model_in(owner.model_fields[key].annotation)
    return owner


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part)) is not None), None)
