"""Options of a ``datex2`` source."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Datex2Options(BaseModel):
    """Options of a ``datex2`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    interval_s: int = Field(
        default=60,
        ge=1,
        le=86_400,
        description="Length of a measurement in seconds, where neither its time nor the site table says.",
    )
    time: Literal["start", "end"] = Field(
        default="end", description="What the time of a measurement means, where the feed does not say (timeMeaning)."
    )
    missing: tuple[float, ...] = Field(default=(-1.0,), description="Numbers that stand for no measurement.")
    vehicles: Literal["any", "all"] = Field(
        default="any",
        description="any: values of all vehicles together only. all: those of each class too, as spots of their own.",
    )
    data_errors: Literal["quarantine", "skip"] = Field(
        default="quarantine",
        description="What to do with values that the feed itself calls faulty. skip takes them for not measured.",
    )
    lon_first: bool = Field(default=False, description="Order of coordinates in posList; latitude first if false.")
    language: str | None = Field(
        default=None, max_length=35, description="Language of texts where the feed does not say (BCP 47)."
    )
