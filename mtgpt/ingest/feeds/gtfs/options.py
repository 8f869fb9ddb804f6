"""What of a GTFS feed is wanted: options of a ``gtfs`` source."""

from __future__ import annotations

from datetime import date  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class GtfsOptions(BaseModel):
    """Options of a ``gtfs`` source; without any, the whole feed is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    start: date | None = Field(default=None, description="First service day; services that end before are not read.")
    end: date | None = Field(default=None, description="Last service day; services that start after are not read.")
    bbox: tuple[Longitude, Latitude, Longitude, Latitude] | None = Field(
        default=None, description="West, south, east, north in degrees: only trips that touch it, only stops inside."
    )
    routes: tuple[Text, ...] | None = Field(
        default=None, min_length=1, description="Only these routes, by route_id or route_short_name."
    )
    agencies: tuple[Text, ...] | None = Field(
        default=None, min_length=1, description="Only routes of these agencies, by agency_id or agency_name."
    )
    band_s: int = Field(default=3600, ge=300, le=86_400, description="Length of a time band of the table service.")
    links: bool = Field(default=True, description="Make links of consecutive stops, transfers and pathways.")
    prefix: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.:-]{0,32}$",
        description="Put before every stop id, where two feeds of a city use the same ids. The same for GTFS-Realtime.",
    )

    @property
    def filtered(self) -> bool:
        """Whether not everything is wanted, so that what no kept trip serves is left out."""
        return any(one is not None for one in (self.start, self.end, self.bbox, self.routes, self.agencies))

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.start is not None and self.end is not None and self.start > self.end:
            raise ValueError("start not after end")
        if self.bbox is not None and (self.bbox[0] >= self.bbox[2] or self.bbox[1] >= self.bbox[3]):
            raise ValueError("a box as west, south, east, north, with west < east and south < north")
        return self

    def holds(self, lon: pl.Expr, lat: pl.Expr) -> pl.Expr:
        """Whether a place is wanted; one without coordinates is where there is no box."""
        if self.bbox is None:
            return pl.lit(True)
        west, south, east, north = self.bbox
        return (lon.is_between(west, east) & lat.is_between(south, north)).fill_null(value=False)
