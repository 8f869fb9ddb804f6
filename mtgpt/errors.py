"""Errors built from facts: what went wrong, where, what was got, what was expected, what to do next.

Every error that a person may cause or meet derives from :class:`MTGPTError`; the command line prints its one
sentence and exits with its code, never a traceback. ``Transient`` and ``Terminal`` decide whether a retry makes
sense: the same call may go through later, or it never will.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MTGPTError(Exception):
    """Base of all errors with a message for a person.

    Args:
        what: What went wrong, as a short clause without a full stop.
        where: File, table, source, key or option at fault.
        got: The value met.
        expected: What would have been right.
        next_step: What the person can do now.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: Any = None,
        expected: Any = None,
        next_step: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.got = got
        self.expected = expected
        self.next_step = next_step
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """All facts in one line: ``where: what (got …, expected …). next step.``"""
        facts = [
            f"{name} {_short(value)}"
            for name, value in (("got", self.got), ("expected", self.expected))
            if value is not None
        ]
        text = f"{_short(self.where, 1000)}: {self.what}" if self.where else self.what
        if facts:
            text += f" ({', '.join(facts)})"
        text += "."
        if self.next_step:
            text += f" {self.next_step[0].upper()}{self.next_step[1:].rstrip('.')}."
        return text

    def as_dict(self) -> dict[str, Any]:
        """The same facts for ``--json`` and logs."""
        facts = {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "got": self.got if self.got is None or isinstance(self.got, int | float | bool) else str(self.got),
            "expected": None if self.expected is None else str(self.expected),
            "next_step": self.next_step,
        }
        return {key: value for key, value in facts.items() if value is not None}


def _short(value: Any, limit: int = 200) -> str:
    # Feeds are hostile input: a value quoted in an error is cut and stripped of control characters.
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Terminal(MTGPTError):
    """Trying again cannot help."""


class Transient(MTGPTError):
    """The same call may go through later; ``retry_after_s`` is the other side's wish, if it gave one."""

    def __init__(self, what: str, *, retry_after_s: float | None = None, **facts: Any) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(what, **facts)


class UsageError(Terminal):
    """An option or argument that a person typed is off."""

    exit_code = 2


class ManifestError(Terminal):
    """A city manifest does not say what it must; ``where`` is ``file:line: key``."""

    exit_code = 2


class ContractError(Terminal):
    """A contract file is malformed, or a new version breaks the last one."""


class SourceUnavailable(Transient):
    """A feed's server or file could not be read now."""


class SourceRefused(Terminal):
    """A feed was refused by a guard: scheme, host, address, size, ratio, member name."""


class FeedError(Terminal):
    """A feed's bytes arrived but are not what its kind says: truncated, wrong width, wrong header."""


class LakeError(Terminal):
    """The lake cannot be read or written: disk full, read-only, table missing, another writer."""


class PanelError(Terminal):
    """A panel cannot be built or read."""


class ModelError(Terminal):
    """A model cannot be loaded, trained or applied."""


class NotFound(Terminal):
    """A named thing (city, spot, panel, model, table) is not there; ``expected`` lists what is."""

    exit_code = 2
