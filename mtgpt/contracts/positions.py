"""YAML with line numbers, so that an error about a value can say where in the file the value stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from mtgpt.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MAX_BYTES = 1_000_000
_MAX_DEPTH = 30
# libyaml's loader is as safe and ten times as fast, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A parsed YAML file.

    Attributes:
        path: The file.
        data: Its content as plain dicts, lists and scalars.
        lines: Line number (from 1) of every key path, list positions included.
    """

    path: Path
    data: Any
    lines: Mapping[tuple[str | int, ...], int]

    def where(self, keys: Sequence[str | int]) -> str:
        """``file:line: key`` of the deepest part of ``keys`` that stands in the file."""
        line = 1
        for depth in range(len(keys), -1, -1):
            found = self.lines.get(tuple(keys[:depth]))
            if found is not None:
                line = found
                break
        name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
        return f"{self.path}:{line}: {name}" if name else f"{self.path}:{line}"


def read_yaml(path: Path) -> Located:
    """Reads one YAML file with the safe loader.

    Raises:
        ContractError: The file cannot be read, is not YAML, repeats a key or uses an alias.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ContractError("The file cannot be read", where=path, got=error.strerror) from error
    if len(raw) > _MAX_BYTES:
        raise ContractError("The file is too large", where=path, got=len(raw), expected=f"at most {_MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8")
        _refuse_tricks(path, text)
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
            lines: dict[tuple[str | int, ...], int] = {}
            if node is not None:
                _walk(node, (), lines, path)
            data = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise ContractError("The file is not UTF-8 text", where=path) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        problem = getattr(error, "problem", None) or "nested too deeply or a value that cannot be read"
        raise ContractError("The file is not valid YAML", where=where, got=problem) from error
    return Located(path=path, data=data, lines=lines)


def _refuse_tricks(path: Path, text: str) -> None:
    # Aliases let a short file stand for an exponentially large document; deep nesting takes the parser quadratic time.
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        where = f"{path}:{event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise ContractError("YAML aliases are not allowed here", where=where, got=f"*{event.anchor}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ContractError("The file is nested too deeply", where=where, expected=f"at most {_MAX_DEPTH} levels")


def _walk(node: yaml.Node, keys: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], path: Path) -> None:
    lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = (*keys, str(key_node.value))
            line = key_node.start_mark.line + 1
            if key in lines:
                # PyYAML would silently keep the last one.
                raise ContractError(
                    "A key stands twice", where=f"{path}:{line}: {key_node.value}", got=f"also in line {lines[key]}"
                )
            lines[key] = line
            _walk(value_node, key, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            _walk(item, (*keys, position), lines, path)
