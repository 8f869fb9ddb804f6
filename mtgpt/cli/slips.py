"""What the option parser has to say of a slip, in the words of all other errors: what, got, expected, next step."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from mtgpt.errors import UsageError

_QUOTED = r"(?:'(?P<quoted>.*)'|(?P<bare>\S+))"
_SAID = (
    (re.compile(_QUOTED + r" is not a valid (?P<expected>.+?)\.?", re.DOTALL), "not a value that it takes"),
    (re.compile(_QUOTED + r" is not in the range (?P<expected>.+?)\.?", re.DOTALL), "not in its range"),
    (re.compile(_QUOTED + r" is not one of (?P<expected>.+?)\.?", re.DOTALL), "not one of its values"),
    (re.compile(r"No such command " + _QUOTED + r"\.?.*", re.DOTALL), "no such command"),
    (re.compile(r"Got unexpected extra argument(?:s|\(s\))? \((?P<quoted>.*)\)", re.DOTALL), "an argument too many"),
    (re.compile(r"Option " + _QUOTED + r" requires an argument\.?", re.DOTALL), "an option without its value"),
)
_KIND = {"int": "a whole number", "integer": "a whole number", "float": "a number", "boolean": "yes or no"}
_FAULTS = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
}


def slip(error: BaseException) -> UsageError | None:
    """What a person typed, as an error with facts; None for what is no slip.

    Args:
        error: Raised by typer, whose own classes moved from one release to the next: they are known by their names.
    """
    names = {one.__name__ for one in type(error).__mro__}
    if not {"ClickException", "UsageError"} <= names or "NoArgsIsHelpError" in names:
        return None
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "mtgpt"
    hint = _hint(error)
    facts: dict[str, Any] = {"where": f"{command}: {hint}" if hint else command, "next_step": f"see {command} --help"}
    if "NoSuchOption" in names:
        near = ", ".join(sorted(getattr(error, "possibilities", None) or ()))
        what, facts["got"] = "no such option", getattr(error, "option_name", None)
        facts["expected"] = f"perhaps {near}" if near else None
    elif "MissingParameter" in names:
        kind = getattr(getattr(error, "param", None), "param_type_name", "argument")
        what, facts["where"], facts["expected"] = f"an {kind} is missing", command, hint
    else:
        what, found = _said(error, context)
        facts |= found
    return UsageError(what, **facts)


def _said(error: BaseException, context: Any) -> tuple[str, dict[str, Any]]:
    fault = error.__cause__.errors()[0] if isinstance(error.__cause__, ValidationError) else None
    if fault is not None and fault["type"] in _FAULTS:
        expected = _FAULTS[fault["type"]].format(**fault.get("ctx", {}))
        return "not a value that it takes", {"got": fault["input"], "expected": expected}
    message = (str(getattr(error, "message", "")) or str(error)).removeprefix("Value error, ")
    for pattern, what in _SAID:
        said = pattern.fullmatch(message)
        if said:
            parts = said.groupdict()
            expected = parts.get("expected") or (_commands(context) if what == "no such command" else None)
            got = parts["quoted"] if parts["quoted"] is not None else parts.get("bare")
            return what, {"got": got, "expected": _KIND.get(expected, expected) if expected else None}
    return message[:1].lower() + message[1:].rstrip("."), {}


def _hint(error: BaseException) -> str | None:
    """The option or argument at fault, as it is typed."""
    parameter: Any = getattr(error, "param", None)
    if parameter is None:
        return None
    if parameter.param_type_name == "option":
        return max(parameter.opts, key=len)
    return str(parameter.name).upper()


def _commands(context: Any) -> str | None:
    return ", ".join(context.command.list_commands(context)) if context is not None else None
