"""Streams out of archives whose bytes are counted as they are read; what a directory says of sizes is a claim."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from mtgpt.errors import SourceRefused

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How much an archive may hold.

    Attributes:
        packed_bytes: Size of the archive itself.
        expanded_bytes: Everything that comes out, over all members.
        ratio: Expanded over packed, looked at once more than ``free_bytes`` came out.
        free_bytes: Small files full of zeros expand a thousandfold and do no harm.
        members: Files and folders in a zip.
    """

    packed_bytes: int = 512 << 20
    expanded_bytes: int = 4 << 30
    ratio: int = 200
    free_bytes: int = 1 << 20
    members: int = 64


DEFAULT_CAPS = Caps()


class Meter:
    """Counts what came out of one archive, and refuses the byte too many.

    Args:
        name: The feed's own name for the archive.
        caps: How much may come out.
        packed: Size of the archive.

    Raises:
        SourceRefused: The archive itself is too large.
    """

    def __init__(self, name: str, caps: Caps, packed: int) -> None:
        self._name = name
        self._caps = caps
        self._out = 0
        self._limit = min(caps.expanded_bytes, max(caps.free_bytes, caps.ratio * packed))
        refuse_large(name, packed, caps.packed_bytes)

    @property
    def room(self) -> int:
        """Bytes that may still come."""
        return self._limit - self._out

    def count(self, size: int) -> None:
        """Counts bytes that came out.

        Raises:
            SourceRefused: Too many.
        """
        self.expect(size)
        self._out += size

    def expect(self, size: int) -> None:
        """Refuses what is said to come, before it does.

        Raises:
            SourceRefused: Too many bytes.
        """
        if self._out + size > self._limit:
            raise SourceRefused(
                "the archive expands too far",
                where=self._name,
                got=f"more than {self._limit} bytes",
                expected=f"at most {self._caps.expanded_bytes} bytes and {self._caps.ratio} times its own size",
            )


class Counted(io.RawIOBase):
    """A stream that is counted as it is read; ``_produce(limit)`` gives the next bytes, empty at the end."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def _produce(self, limit: int) -> bytes:
        raise NotImplementedError

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads the next bytes.

        Raises:
            SourceRefused: More came out than may.
        """
        view = memoryview(buffer).cast("B")
        # One byte more than there is room for is enough to know, and 0 would mean no limit to zlib.
        data = self._produce(min(len(view), self._meter.room + 1)) if len(view) else b""
        self._meter.count(len(data))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Everything that is left; the base class goes in steps of 8 KB."""
        pieces = io.BytesIO()
        while data := self.read(PIECE):
            pieces.write(data)
        return pieces.getvalue()


def buffered(stream: Counted) -> BinaryIO:
    """The stream with a buffer, so that lines can be read."""
    return cast("BinaryIO", io.BufferedReader(stream, PIECE))


def refuse_large(name: str, size: int, limit: int) -> None:
    """Refuses a file above its cap.

    Raises:
        SourceRefused: It is.
    """
    if size > limit:
        raise SourceRefused("the file is too large", where=name, got=size, expected=f"at most {limit} bytes")
