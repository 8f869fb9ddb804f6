"""YAML that a person writes: plain values, and the line that each of them stands on.

Read by the rules of YAML 1.2's core schema: under YAML 1.1, PyYAML's default, the country ``NO`` is false, the hour
``23:00`` is 1380 and ``2012-03-01`` is no text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_CHARACTERS = 1_000_000
MAX_NODES = 100_000
_MAX_DEPTH = 64


class YamlFault(Exception):  # noqa: N818 - internal, becomes a ManifestError
    """The text is not YAML that we take.

    Args:
        line: From 1.
        key: Dotted path, or empty.
        what: What is wrong.
    """

    def __init__(self, line: int, key: str, what: str) -> None:
        super().__init__(what)
        self.line = line
        self.key = key
        self.what = what


def _core_resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ):
        for character in first:
            resolvers.setdefault(character, []).append((f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$")))
    return resolvers


class _CoreLoader(yaml.SafeLoader):
    yaml_implicit_resolvers = _core_resolvers()


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    # YAML 1.1 reads 007 as octal and 0b1 as binary; a stop id or a day must stay what it looks like.
    return int(loader.construct_scalar(node))


_CoreLoader.add_constructor("tag:yaml.org,2002:int", _decimal)


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlDocument:
    """One parsed document.

    Attributes:
        value: Dicts, lists, strings, numbers, booleans and nulls.
        root: The node tree that knows the lines.
    """

    value: Any
    root: yaml.Node

    def line(self, keys: Sequence[str | int]) -> int:
        """Line, from 1, of the deepest part of ``keys`` that the text has; a missing key gives its parent's line."""
        node, line = self.root, self.root.start_mark.line
        for key in keys:
            child = next((pair for pair in _children(node) if pair[0] == str(key)), None)
            if child is None:
                # Validators add steps that are not in the text (a union's branch): skip them.
                continue
            _, line, node = child
        return line + 1


def parse_yaml(text: str) -> YamlDocument:
    """Parses one document.

    Raises:
        YamlFault: Syntax, a key that stands twice, more than one document, too large once aliases are expanded.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlFault(1, "", f"the file has {len(text)} characters, at most {MAX_CHARACTERS} are read")
    try:
        loader = _CoreLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlFault(line, "", f"not YAML: the character U+{error.character:04X} is not allowed") from error
    try:
        root = loader.get_single_node()
        if root is None:
            raise YamlFault(1, "", "the file is empty")
        _refuse_odd_trees(root)
        return YamlDocument(value=loader.construct_document(root), root=root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        raise YamlFault(line, "", f"not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise YamlFault(1, "", f"not YAML: {reason}") from error
    finally:
        loader.dispose()


def dotted(keys: Sequence[str | int]) -> str:
    """``("sources", 0, "kind")`` as ``sources[0].kind``."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _children(node: yaml.Node) -> Iterator[tuple[str, int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), key.start_mark.line, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield str(index), value.start_mark.line, value


def _refuse_odd_trees(root: yaml.Node) -> None:
    # Aliases cost nothing here and everything once expanded: count what the tree would be, as if each were a copy.
    count = 0
    stack: list[tuple[yaml.Node, tuple[str | int, ...]]] = [(root, ())]
    while stack:
        node, keys = stack.pop()
        count += 1
        if count > MAX_NODES or len(keys) > _MAX_DEPTH:
            raise YamlFault(root.start_mark.line + 1, "", "too many values, or aliases that repeat each other")
        seen: set[str] = set()
        for key, line, child in _children(node):
            step = int(key) if isinstance(node, yaml.SequenceNode) else key
            if key in seen:
                raise YamlFault(line + 1, dotted((*keys, step)), "the key stands twice")
            seen.add(key)
            stack.append((child, (*keys, step)))
