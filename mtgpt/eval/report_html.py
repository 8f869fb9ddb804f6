"""HTML that escapes by construction: text becomes text, and only elements made here are markup.

Feed texts (station names, error messages, raw rows) are hostile input; a page built by :func:`el` cannot carry them
as anything but text.
"""

from __future__ import annotations

import html
import math

_VOID = frozenset({"br", "circle", "line", "meta", "path", "polygon", "polyline", "rect"})


class Html(str):
    """Markup that is already safe."""

    __slots__ = ()


def el(tag: str, /, *children: object, **attributes: object) -> Html:
    """One element.

    Args:
        tag: Name of the element.
        *children: Markup as it is, everything else escaped; lists are laid out, None is left out.
        **attributes: ``class_`` becomes ``class``, ``aria_label`` becomes ``aria-label``; None leaves one out.
    """
    written = "".join(
        f' {_attribute(name)}="{html.escape(_text(value), quote=True)}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = join(*children)
    if tag in _VOID and not inside:
        return Html(f"<{tag}{written}>" if tag in {"br", "meta"} else f"<{tag}{written}/>")
    return Html(f"<{tag}{written}>{inside}</{tag}>")


def join(*children: object) -> Html:
    """Several children without an element around them."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, list | tuple):
            parts.append(join(*child))
        else:
            parts.append(html.escape(_text(child), quote=False))
    return Html("".join(parts))


def table(caption: object, head: list[object], rows: list[list[object]], *, class_: str | None = None) -> Html:
    """A table with a caption, column headers and the first cell of each row as its header, in a box that scrolls.

    A row may hold elements ``td`` / ``th`` of its own; anything else is wrapped.
    """
    header = el("tr", [el("th", cell, scope="col") for cell in head])
    body = [el("tr", [_cell(cell, first=i == 0) for i, cell in enumerate(row)]) for row in rows]
    made = el("table", el("caption", caption), el("thead", header), el("tbody", body), class_=class_)
    return scroll_box(made, label=caption)


def scroll_box(content: Html, *, label: object) -> Html:
    """A box that scrolls sideways on a narrow screen and can be reached by keyboard."""
    name = label if isinstance(label, str) and not isinstance(label, Html) else "Table"
    return el("div", content, class_="scroll", role="region", tabindex=0, aria_label=name)


def number(value: float | None, digits: int | None = None) -> str:
    """``12,345``, ``63.4``, ``0.12``; an en dash for nothing.

    Args:
        value: Not a number, infinity and None are nothing.
        digits: After the point; by size if None.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if digits is None:
        size = abs(value)
        digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{digits}f}".replace("-", "\u2212")


def count(value: int) -> str:
    """``12,345``."""
    return number(value, 0)


def _cell(cell: object, *, first: bool) -> Html:
    if isinstance(cell, Html) and cell.startswith(("<td", "<th")):
        return cell
    return el("th", cell, scope="row") if first else el("td", cell)


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _text(value: object) -> str:
    # Control characters are legal nowhere in HTML, and feeds contain them.
    text = value if isinstance(value, str) else str(value)
    return "".join(c for c in text if c.isprintable() or c in "\n\t")
