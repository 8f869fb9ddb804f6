"""The frozen plan of a transfer experiment: which cities, which data, who is held out, which settings, which seeds.

A table is only worth comparing where it is known what was compared. A plan therefore names every panel by its hash,
and a run refuses panels that are not the ones of its plan. Shapes: none; this is paper work.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mtgpt.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mtgpt.panel.panel import Panel

VERSION = 1
FULL = "full"
ZERO = "zero"
_Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Recipe(_Written):
    """A training recipe by name, with fields set differently."""

    name: str = Field(description="See `mtgpt train --help`.")
    changes: dict[str, Any] = Field(default_factory=dict, description="Fields of the recipe and their values.")


class Plan(_Written):
    """What a transfer experiment compares; equal plans and panels give equal tables.

    Splits are chronological, 60/20/20 over windows. A few-shot setting of k days shows the k service days that end
    where the test part begins; the last of them decides whether the adaptation is used at all.
    """

    version: Literal[1] = Field(default=VERSION, description="Of this format.")
    name: str = Field(min_length=1, max_length=100, description="For people.")
    cities: dict[_Name, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(
        min_length=2, description="Every city and the id of its panel, which is a hash over content and recipe."
    )
    held_out: tuple[tuple[_Name, ...], ...] = Field(
        description="Groups of cities that are targets together; a group's model is trained on all other cities."
    )
    days: tuple[Annotated[int, Field(ge=1, le=60)], ...] = Field(
        default=(1, 3, 7), description="Visible days of the few-shot settings."
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0, 1, 2), description="Of weights and batches.")
    stride: int = Field(default=3, ge=1, description="Every how many test windows are scored.")
    pretrain: Recipe = Field(default=Recipe(name="joint"), description="On all cities that are not held out.")
    adapt: Recipe = Field(default=Recipe(name="adapt"), description="From there, on a target's visible days.")
    alone: Recipe = Field(default=Recipe(name="single_city"), description="The same network from scratch, target only.")

    @model_validator(mode="after")
    def _groups_are_cities(self) -> Plan:
        targets = [city for group in self.held_out for city in group]
        unknown = sorted(set(targets) - set(self.cities))
        if unknown:
            raise ValueError(f"held out but not among the cities: {', '.join(unknown)}")
        if len(set(targets)) != len(targets):
            raise ValueError("a city is held out in two groups")
        if any(len(group) == len(self.cities) for group in self.held_out):
            raise ValueError("a group leaves no city to train on")
        return self

    @property
    def sha256(self) -> str:
        """Hash of everything in it, 64 hex digits; a run's results are kept under it."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def canonical(self) -> str:
        """The plan as one line of JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def group(self, target: str) -> tuple[str, ...]:
        """The cities that are held out together with a target, itself included.

        Raises:
            NotFound: It is no target.
        """
        for one in self.held_out:
            if target in one:
                return one
        raise NotFound("no such target", where=self.name, got=target, expected=", ".join(self.targets))

    @property
    def targets(self) -> tuple[str, ...]:
        """All cities that are held out by some group, in the plan's order."""
        return tuple(city for group in self.held_out for city in group)

    def sources(self, group: Sequence[str]) -> tuple[str, ...]:
        """The cities that a group's model is trained on, in the plan's order."""
        return tuple(city for city in self.cities if city not in group)

    def check(self, panels: Mapping[str, Panel]) -> None:
        """Refuses panels that are not the plan's.

        Raises:
            NotFound: A city has no panel here.
            UsageError: Some panels hold other data, or were built another way.
        """
        missing = [city for city in self.cities if city not in panels]
        if missing:
            raise NotFound(
                "cities of the plan have no panel",
                where=self.name,
                got=", ".join(missing),
                next_step=f"mtgpt ingest {missing[0]} && mtgpt panel build {missing[0]}",
            )
        other = [city for city, wanted in self.cities.items() if panels[city].meta.panel_id != wanted]
        if other:
            raise UsageError(
                "the panels are not those of the plan: a table over other data would bear its name",
                where=self.name,
                got=", ".join(f"{city} {panels[city].meta.panel_id[:12]}" for city in other),
                expected=", ".join(self.cities[city][:12] for city in other),
                next_step="ingest the same files into an empty lake and build again, or freeze a plan of your own "
                "with `mtgpt evaluate freeze`",
            )


def freeze(
    panels: Mapping[str, Panel], *, name: str, held_out: Sequence[Sequence[str]] | None = None, **changes: Any
) -> Plan:
    """A plan over panels as they are now.

    Args:
        panels: By city, in the order that the plan keeps.
        name: For people.
        held_out: Groups of targets; every city for itself if not given.
        changes: Further fields of :class:`Plan`.

    Raises:
        UsageError: The fields do not make a plan.
    """
    groups = [[city] for city in panels] if held_out is None else held_out
    try:
        return Plan.model_validate_json(
            json.dumps(
                {
                    "name": name,
                    "cities": {city: panel.meta.panel_id for city, panel in panels.items()},
                    "held_out": [list(group) for group in groups],
                    **changes,
                }
            )
        )
    except ValidationError as error:
        raise _refused(error, name) from None


def load_plan(path: Path) -> Plan:
    """Reads a plan.

    Raises:
        NotFound: No such file.
        UsageError: Not a plan.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise NotFound("no such plan", where=path, next_step="freeze one: mtgpt evaluate freeze --help") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("the plan cannot be read", where=path, got=str(error)) from None
    try:
        return Plan.model_validate_json(text)
    except ValidationError as error:
        raise _refused(error, path) from None


def _refused(error: ValidationError, where: object) -> UsageError:
    faults = "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'plan'}: {fault['msg']}" for fault in error.errors()[:5]
    )
    return UsageError("not a plan of a transfer experiment", where=where, got=faults)
