"""Text from strangers: what is no text at all, or text in another encoding, is refused by name.

Feeds are read as UTF-8. A guess at another encoding would be right most of the time, and would make two stops of one,
or one of two, the rest of the time.
"""

from __future__ import annotations

import csv
import io
import re

from mtgpt.errors import FeedError

_HEAD = 4096
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_WEB_PAGE = re.compile(rb"\s*<(!doctype html|html|head|\?xml)", re.IGNORECASE)


def refuse_other_than_text(head: bytes, *, where: str) -> None:
    """Looks at the first bytes of what should be a table in text.

    Raises:
        FeedError: UTF-16, binary data, a web page, or lines that only old Macs end.
    """
    head = head[:_HEAD]
    if head.startswith(_WIDE) or (len(head) > 3 and head[1::2].count(0) > len(head) // 4):
        raise FeedError(
            "the text is not UTF-8",
            where=where,
            got="UTF-16",
            expected="UTF-8",
            next_step="convert it: iconv -f UTF-16 -t UTF-8",
        )
    control = _CONTROL.search(head)
    if control:
        raise FeedError(
            "binary data, not a table in text",
            where=where,
            got=f"byte 0x{control[0].hex()} at position {control.start()}",
            next_step="look at what the feed sent",
        )
    if _WEB_PAGE.match(head):
        raise FeedError(
            "a web page, not a table",
            where=where,
            got=head.strip()[:40].decode(errors="replace"),
            next_step="check the address; servers often answer errors that way",
        )
    if b"\r" in head and b"\n" not in head and b"\r" in head.rstrip(b"\r"):
        raise FeedError(
            "lines end with a carriage return alone",
            where=where,
            expected="line feeds",
            next_step="convert the line ends",
        )


def utf8(data: bytes, *, where: str) -> str:
    """Decodes bytes, a mark at their beginning aside.

    Raises:
        FeedError: Not text, or text in another encoding; the line is named.
    """
    refuse_other_than_text(data, where=where)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise FeedError(
            "the text is not UTF-8",
            where=where,
            got=f"byte 0x{error.object[error.start]:02x} in line {line}",
            expected="UTF-8",
            next_step="convert it, perhaps from Latin-1: iconv -f LATIN1 -t UTF-8",
        ) from None


def cells(data: bytes, *, where: str) -> list[list[str]]:
    """All rows of a small csv that are not blank.

    Raises:
        FeedError: Empty, not text, or not a csv.
    """
    text = utf8(data, where=where)
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise FeedError("not a csv", where=where, got=str(error)) from None
    if not rows:
        raise FeedError("the file is empty", where=where)
    return rows


def no_table(data: bytes, error: Exception, *, where: str, first_line: int = 1) -> FeedError:
    """What to say of delimited bytes that a reader refused: an open quote swallows all lines after it.

    Args:
        data: The bytes.
        error: What the reader said.
        where: What to name.
        first_line: Number of the first line of ``data`` in its file.
    """
    if data.count(b'"') % 2:
        lines = enumerate(data.split(b"\n"), start=first_line)
        odd = next(number for number, line in lines if line.count(b'"') % 2)
        return FeedError(
            f"a quote is opened and never closed, perhaps in line {odd}", where=where, next_step="look at that line"
        )
    return FeedError("not a delimited table", where=where, got=str(error).splitlines()[0])
