"""What the tags of a way say of driving on it, after the conventions of OpenStreetMap's wiki."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from mtgpt.ingest.rows.units import MILE_M

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    Oneway = Literal["both", "forward", "backward"]

DRIVABLE = (
    "motorway", "motorway_link", "trunk", "trunk_link", "primary", "primary_link", "secondary", "secondary_link",
    "tertiary", "tertiary_link", "unclassified", "residential", "living_street", "busway", "road",
)  # fmt: skip
"""Values of ``highway`` for traffic that passes through; service roads (car parks, yards) are not among them."""

_NUMBER = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,2})?")
_SPEED = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,2})?) ?(km/h|kmh|kph|mph|knots)?", re.IGNORECASE)
# DE:zone30, IT:zone:20. What `BR:urban` means depends on the law of the country and the class of the road: unknown.
_ZONE = re.compile(r"[A-Z]{2}(?:-[A-Z]{2,3})?:zone:?([0-9]{2,3})")
_FASTEST_KM_H, _MOST_LANES = 250.0, 64.0
_FACTORS: Mapping[str, float] = {"mph": MILE_M / 1000, "knots": 1.852}
_WALK_KM_H = 7.0
_ALONG = {"yes": "forward", "true": "forward", "1": "forward", "-1": "backward", "reverse": "backward"}
_CLOSED = ("no", "private")
_OPEN = ("yes", "designated", "permissive", "destination", "official")
_VEHICLES = ("motor_vehicle", "motorcar", "vehicle", "bus", "psv")


def is_drivable(tags: Mapping[str, str]) -> bool:
    """Whether motor vehicles or buses may use it, and it is a line: no square, nothing closed or private."""
    if tags.get("area") == "yes":
        return False
    if any(tags.get(key) in _OPEN for key in _VEHICLES):
        return True
    return not any(tags.get(key) in _CLOSED for key in ("access", "vehicle", "motor_vehicle"))


def oneway(tags: Mapping[str, str]) -> Oneway:
    """The direction of travel along the way as it is drawn."""
    said = tags.get("oneway", "").strip().lower()
    if said in _ALONG:
        return "forward" if _ALONG[said] == "forward" else "backward"
    if said in ("no", "false", "0", "reversible", "alternating"):
        return "both"
    implied = tags.get("junction") in ("roundabout", "circular") or tags.get("highway") in ("motorway", "motorway_link")
    return "forward" if implied else "both"


def lanes(tags: Mapping[str, str]) -> float | None:
    """Lanes, both directions together; None where the tag is missing or no plain number."""
    text = tags.get("lanes", "").strip()
    count = float(text) if _NUMBER.fullmatch(text) else math.nan
    return count if 0 < count <= _MOST_LANES else None


def max_speed_km_h(tags: Mapping[str, str]) -> float | None:
    """The limit in km/h; None where there is none, or what the tag says depends on the law of the place."""
    text = tags.get("maxspeed", "").strip()
    if text == "walk":
        return _WALK_KM_H
    zone = _ZONE.fullmatch(text) or _ZONE.fullmatch(tags.get("maxspeed:type", "").strip())
    found = _SPEED.fullmatch(text)
    if found:
        speed = float(found[1]) * _FACTORS.get((found[2] or "").lower(), 1.0)
    elif zone and not text.startswith("none"):
        speed = float(zone[1])
    else:
        return None
    return round(speed, 2) if 0 < speed <= _FASTEST_KM_H else None


def shown(text: str | None, most: int) -> str | None:
    """A name without control characters, cut; None where nothing is left."""
    if text is None:
        return None
    clean = "".join(c if c.isprintable() else " " for c in text[: 4 * most])
    return " ".join(clean.split())[:most] or None
