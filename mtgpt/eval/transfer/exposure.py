"""Which city, data and period a checkpoint has seen; a table refuses to call a seen city zero-shot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtgpt.errors import ModelError
from mtgpt.model.checkpoint import TRAINING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What a checkpoint has seen of one city.

    Attributes:
        city: Its id.
        panel_id: Of the panel it was shown.
        start, end: First and last step that any weight or band was fitted to, UTC.
    """

    city: str
    panel_id: str
    start: str
    end: str


def exposures(model: Path) -> tuple[Exposure, ...]:
    """The exposure ledger of a model's folder.

    Raises:
        ModelError: It has none; such a model cannot take part in a transfer table.
    """
    try:
        card = json.loads((model / TRAINING).read_text("utf-8"))
        return tuple(
            Exposure(
                city=str(one["city"]),
                panel_id=str(one["panel_id"]),
                start=str(one["from"]),
                end=max(str(one["until"]), str(one.get("bands_until") or "")),
            )
            for one in card["exposures"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "the model does not say what it was trained on",
            where=model / TRAINING,
            got=f"{type(error).__name__}: {error}",
            next_step="train it with `mtgpt train`, which writes that down",
        ) from None


def require_unseen(model: Path, cities: Sequence[str]) -> None:
    """Refuses a model that has seen one of these cities, in whatever period.

    Raises:
        ModelError: It has.
    """
    seen = sorted({one.city for one in exposures(model)} & set(cities))
    if seen:
        raise ModelError(
            "the model has seen this city: its forecast there is not zero-shot",
            where=model.name,
            got=", ".join(seen),
            expected=f"a model trained without {', '.join(cities)}",
        )
