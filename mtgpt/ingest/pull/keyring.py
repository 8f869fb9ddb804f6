"""The keys that one request carries, and how they stay out of everything that is said of it.

Our own words never hold a query or a header. A server's do: it may send a key back in a redirect's path, in a tag, in
the text of an answer, and what is quoted of those must not carry it into errors, logs or the ledger.
"""

from __future__ import annotations

import base64
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mtgpt.errors import MTGPTError

_SECRET_NAME = re.compile(r"key|token|secret|pass|auth|sig|credential|appid|app_id|user", re.IGNORECASE)
_REFERENCE = "${ENV:"
_SHORTEST = 4
_HIDDEN = "…"


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys in every spelling in which they may come back.

    Attributes:
        spellings: The longest first.
    """

    spellings: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, written: str, sent: str, headers: Mapping[str, str]) -> Keyring:
        """The keys of a request.

        Args:
            written: The query in the manifest, with its references.
            sent: The query as it is sent.
            headers: As they are sent; their values are all secrets.
        """
        pairs = zip(parse_qsl(written, keep_blank_values=True), parse_qsl(sent, keep_blank_values=True), strict=False)
        keys = {value for (name, said), (_, value) in pairs if _REFERENCE in said or _SECRET_NAME.search(name)}
        keys |= {value.rpartition(" ")[2] for value in headers.values()}
        spelled = {one for key in keys if len(key) >= _SHORTEST for one in _spellings(key)}
        return cls(tuple(sorted(spelled, key=len, reverse=True)))

    def holds(self, text: str | None) -> bool:
        """Whether a text carries a key."""
        return text is not None and any(one in text for one in self.spellings)

    def hidden(self, text: str) -> str:
        """The text without the keys."""
        for one in self.spellings:
            text = text.replace(one, _HIDDEN)
        return text

    def scrub(self, error: MTGPTError) -> None:
        """Takes the keys out of an error's facts, in place, so that it stays what it is."""
        for name in ("what", "where", "got", "expected", "next_step"):
            value = getattr(error, name)
            if value is not None and self.holds(str(value)):
                setattr(error, name, self.hidden(str(value)))
        error.args = (error.sentence(),)


def quiet_wire() -> None:
    """Keeps the HTTP library's debug log from writing down what a server answers, which may hold a key."""
    for name in ("httpcore.http11", "httpcore.connection"):
        # The same filter is added once, however often it is asked for.
        logging.getLogger(name).addFilter(_without_headers)


def _without_headers(record: logging.LogRecord) -> bool:
    return "headers" not in record.getMessage()


def _spellings(key: str) -> Iterable[str]:
    yield key
    yield quote(key, safe="")
    yield quote(key)
    yield quote_plus(key)
    yield base64.b64encode(key.encode()).decode().rstrip("=")
