"""Units of feeds to the units of the lake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtgpt.contracts.variables import variable
from mtgpt.errors import FeedError, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

MILE_M = 1609.344

_FACTORS: Mapping[tuple[str, str], float] = {
    ("mph", "km/h"): MILE_M / 1000,
    ("m/s", "km/h"): 3.6,
    ("knot", "km/h"): 1.852,
    ("km/h", "m/s"): 1 / 3.6,
    ("mph", "m/s"): MILE_M / 3600,
    ("knot", "m/s"): 1852 / 3600,
    ("%", "1"): 0.01,
    ("percent", "1"): 0.01,
    ("Wh", "kWh"): 0.001,
    ("MWh", "kWh"): 1000.0,
    ("min", "s"): 60.0,
    ("h", "s"): 3600.0,
    ("min", "h"): 1 / 60,
    ("s", "h"): 1 / 3600,
    ("inch", "mm"): 25.4,
    ("cm", "mm"): 10.0,
    ("km", "m"): 1000.0,
    ("mile", "m"): MILE_M,
    ("ft", "m"): 0.3048,
    ("cent", "local currency"): 0.01,
}
PER_INTERVAL = "veh/interval"
"""Unit of vehicle counts per step, which become an hourly rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """``lake value = feed value × factor + offset``."""

    factor: float = 1.0
    offset: float = 0.0

    @property
    def changes(self) -> bool:
        """Whether it does anything."""
        return self.factor != 1.0 or self.offset != 0.0


def to_variable(name: str, unit: str | None, *, interval_s: int, where: str) -> Conversion:
    """From a feed's unit to the unit of a variable of the vocabulary.

    Args:
        name: Variable of the vocabulary.
        unit: The feed's unit; None where it is the variable's own.
        interval_s: Length of a step, for counts per step.
        where: What to name in an error.

    Raises:
        FeedError: No such variable, or no conversion between the two.
    """
    try:
        target = variable(name).unit
    except NotFound as error:
        raise FeedError("unknown variable", where=where, got=name, expected=error.expected) from None
    return between(target if unit is None else unit, target, interval_s=interval_s, where=f"{where}: {name}")


def between(unit: str, target: str, *, where: str, interval_s: int = 3600) -> Conversion:
    """From one unit to another.

    Raises:
        FeedError: There is no conversion; the error lists the units that would do.
    """
    if unit == target:
        return Conversion()
    if (unit, target) == (PER_INTERVAL, "veh/h"):
        return Conversion(factor=3600 / interval_s)
    if (unit, target) == ("degF", "Cel"):
        return Conversion(factor=5 / 9, offset=-160 / 9)
    if (unit, target) == ("K", "Cel"):
        return Conversion(offset=-273.15)
    factor = _FACTORS.get((unit, target))
    if factor is None:
        known = [source for source, to in _FACTORS if to == target]
        known += {"veh/h": [PER_INTERVAL], "Cel": ["degF", "K"]}.get(target, [])
        raise FeedError(
            "no conversion between these units", where=where, got=unit, expected=", ".join([target, *known])
        )
    return Conversion(factor=factor)
