"""XML from strangers, streamed: the wanted elements one by one, in memory that does not grow with the file.

The document is pushed through defusedxml's parser (no document type, hence no entity, nothing external) into a target
that builds only the wanted elements, and counts as it goes. What the parser would hold back before it calls anyone, a
tag or comment of any length, is bounded by counting bytes between two calls.
"""

from __future__ import annotations

import re
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from mtgpt.errors import FeedError, SourceRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_PIECE = 1 << 16
_NONE: Mapping[str, str] = MappingProxyType({})
_WEB_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(!doctype html|html)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class XmlCaps:
    """How much of each kind an XML file may hold.

    Attributes:
        depth: Elements inside each other.
        attributes: Of one element.
        attribute_chars: Of one value.
        text_chars: Directly inside one element.
        markup_bytes: Of one tag, comment or instruction.
        names: Different names of elements and attributes.
        record_elements: Elements inside one wanted element.
        record_chars: Characters of texts and attributes inside one wanted element.
    """

    depth: int = 100
    attributes: int = 100
    attribute_chars: int = 1 << 16
    text_chars: int = 1 << 20
    markup_bytes: int = 1 << 18
    names: int = 10_000
    record_elements: int = 30_000
    record_chars: int = 4 << 20


DEFAULT_XML_CAPS = XmlCaps()


@dataclass(slots=True, kw_only=True)
class Node:
    """An element; its name and those of its attributes without their namespaces.

    Attributes:
        name: Local name.
        attributes: By local name.
        text: Everything directly inside it, stripped.
        children: Elements directly inside it, in order.
    """

    name: str
    attributes: Mapping[str, str]
    text: str = ""
    children: list[Node] = field(default_factory=list)

    @property
    def type(self) -> str:
        """Local part of ``xsi:type``; empty where there is none."""
        return self.attributes.get("type", "").rpartition(":")[2]

    def first(self, *path: str) -> Node | None:
        """The first child of that name, and so on down the path."""
        node = self
        for name in path:
            # A loop, not a generator: this is what readers of records do most.
            for child in node.children:
                if child.name == name:
                    node = child
                    break
            else:
                return None
        return node

    def every(self, name: str) -> list[Node]:
        """The children of that name."""
        return [child for child in self.children if child.name == name]

    def value(self, *path: str) -> str | None:
        """Text of the element at a path; None where it is not there or empty."""
        node = self.first(*path)
        return node.text or None if node is not None else None

    def within(self, *names: str) -> Iterator[Node]:
        """The elements of those names anywhere inside, in the order of the document."""
        waiting = deque(self.children)
        while waiting:
            node = waiting.popleft()
            if node.name in names:
                yield node
            waiting.extendleft(reversed(node.children))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A wanted element.

    Attributes:
        node: The element.
        ancestors: What it stands in, outermost first, without content.
    """

    node: Node
    ancestors: tuple[Node, ...]

    def inherited(self, attribute: str) -> str | None:
        """An attribute of the element or of the nearest one around it that has it."""
        for node in (self.node, *reversed(self.ancestors)):
            if attribute in node.attributes:
                return node.attributes[attribute]
        return None


def records(
    stream: BinaryIO, wanted: Collection[str], *, where: str, caps: XmlCaps = DEFAULT_XML_CAPS
) -> Iterator[Record]:
    """Streams the wanted elements of an XML document.

    Args:
        stream: Its bytes; XML says itself how they are encoded.
        wanted: Local names. A wanted element inside another one is part of that one.
        where: What to name in an error.
        caps: How much of everything there may be.

    Yields:
        The elements, each as soon as it is closed.

    Raises:
        SourceRefused: A document type, an entity, or a cap.
        FeedError: No XML, damaged, cut off, or in an encoding that cannot be read.
    """
    target = _Target(frozenset(wanted), caps, where)
    parser = DefusedXMLParser(target=target, forbid_dtd=True)
    # Past two layers that give each attribute a dictionary of its own: a quarter of the time of a file.
    parser.parser.StartElementHandler = target.start
    parser.parser.EndElementHandler = target.end
    quiet = 0
    first = True
    with _faults(where):
        while piece := stream.read(_PIECE):
            if first and _WEB_PAGE.match(piece[:1024]):
                raise FeedError("a web page, not XML data", where=where, next_step="check the address")
            first = False
            calls = target.calls
            parser.feed(piece)
            quiet = quiet + len(piece) if target.calls == calls else 0
            if quiet > caps.markup_bytes:
                target.refuse("a tag, comment or instruction is too long", quiet, caps.markup_bytes, "bytes")
            yield from target.take()
        parser.close()
    yield from target.take()


@contextmanager
def _faults(where: str) -> Iterator[None]:
    try:
        yield
    except DefusedXmlException:
        raise SourceRefused(
            "the XML declares a document type or an entity", where=where, expected="plain elements"
        ) from None
    except ParseError as error:
        raise FeedError(
            "the XML is damaged or cut off", where=where, got=str(error), next_step="pull it again"
        ) from None
    except (ValueError, LookupError) as error:
        # What the parser says of an encoding that it does not know.
        raise FeedError("the XML cannot be read", where=where, got=str(error), expected="UTF-8") from None


class _Target:
    """What the parser calls: builds records, counts everything."""

    def __init__(self, wanted: frozenset[str], caps: XmlCaps, where: str) -> None:
        self.calls = 0
        self._wanted = wanted
        self._caps = caps
        self._where = where
        self._names: dict[str, str] = {}
        self._outside: list[Node] = []
        self._inside: list[Node] = []
        self._depth = 0
        self._text: list[str] = []
        self._text_chars = 0
        self._record_elements = 0
        self._record_chars = 0
        self._done: list[Record] = []

    def take(self) -> list[Record]:
        """The records closed since the last call."""
        done, self._done = self._done, []
        return done

    def refuse(self, what: str, got: object, most: int, unit: str) -> NoReturn:
        raise SourceRefused(what, where=self._where, got=got, expected=f"at most {most} {unit}")

    def start(self, tag: str, given: list[str]) -> None:
        self.calls += 1
        if self._text_chars:
            self._end_text()
        inside, caps = self._inside, self._caps
        self._depth += 1
        if self._depth > caps.depth:
            self.refuse("the XML is nested too deeply", self._depth, caps.depth, "levels")
        name = self._names.get(tag) or self._local(tag)
        node = Node(name=name, attributes=self._attributes(given) if given else _NONE, children=[])
        if inside:
            self._record_elements += 1
            if self._record_elements > caps.record_elements:
                self.refuse(
                    f"one {inside[0].name} is too large", self._record_elements, caps.record_elements, "elements"
                )
            inside[-1].children.append(node)
            inside.append(node)
        elif name in self._wanted:
            self._record_elements = self._record_chars = 0
            inside.append(node)
        else:
            self._outside.append(node)

    def data(self, text: str) -> None:
        # The parser hands on one text in many pieces.
        self.calls += 1
        self._text_chars += len(text)
        if self._text_chars > self._caps.text_chars:
            self.refuse("a text is too long", self._text_chars, self._caps.text_chars, "characters")
        if self._inside:
            self._text.append(text)

    def end(self, tag: str) -> None:
        del tag
        self.calls += 1
        if self._text_chars:
            self._end_text()
        self._depth -= 1
        if not self._inside:
            self._outside.pop()
            return
        node = self._inside.pop()
        if not self._inside:
            self._done.append(Record(node=node, ancestors=tuple(self._outside)))

    def comment(self, text: str) -> None:
        del text
        self.calls += 1

    def pi(self, target: str, text: str | None = None) -> None:
        del target, text
        self.calls += 1

    def close(self) -> None:
        return

    def _end_text(self) -> None:
        if self._inside:
            parts = self._text
            text = (parts[0] if len(parts) == 1 else "".join(parts)).strip()
            parts.clear()
            if text:
                self._count_chars(len(text))
                self._inside[-1].text += text
        self._text_chars = 0

    def _local(self, name: str) -> str:
        if len(self._names) >= self._caps.names:
            self.refuse("the XML has too many different names", len(self._names) + 1, self._caps.names, "names")
        self._names[name] = local = name.rpartition("}")[2]
        return local

    def _attributes(self, given: list[str]) -> dict[str, str]:
        caps, names = self._caps, self._names
        if len(given) > 2 * caps.attributes:
            self.refuse("an element has too many attributes", len(given) // 2, caps.attributes, "attributes")
        found = {}
        for at in range(0, len(given), 2):
            value = given[at + 1]
            if len(value) > caps.attribute_chars:
                self.refuse("an attribute is too long", len(value), caps.attribute_chars, "characters")
            if self._inside:
                self._record_chars += len(value)
            found[names.get(given[at]) or self._local(given[at])] = value
        self._count_chars(0)
        return found

    def _count_chars(self, more: int) -> None:
        self._record_chars += more
        if self._record_chars > self._caps.record_chars:
            self.refuse("one element holds too much text", self._record_chars, self._caps.record_chars, "characters")
