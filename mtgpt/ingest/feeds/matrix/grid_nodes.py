"""Node-link JSON, as networkx writes graphs: a node per place with its series, a link per edge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mtgpt.errors import FeedError
from mtgpt.ingest.feeds.matrix.grid_file import Grid, read_json
from mtgpt.ingest.feeds.matrix.grid_links import Pairs
from mtgpt.ingest.feeds.matrix.grid_places import Places
from mtgpt.ingest.rows.places import to_wgs84

if TYPE_CHECKING:
    from mtgpt.ingest.adapter import FeedFile


class NodeLinkOptions(BaseModel):
    """Which keys of the JSON hold what."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    nodes: str = Field(default="nodes", description="Key of the list of places.")
    id: str = Field(default="id", description="Key of a place's id.")
    values: str = Field(description="Key of a place's series.")
    lon: str | None = Field(default=None, description="Key of a place's longitude or easting.")
    lat: str | None = Field(default=None, description="Key of a place's latitude or northing.")
    links: str | None = Field(default=None, description="Key of the list of links.")
    source: str = Field(default="source", description="Key of a link's first place.")
    target: str = Field(default="target", description="Key of a link's second place.")
    distance: str = Field(default="weight", description="Key of a link's length.")


def read_node_link(file: FeedFile, options: NodeLinkOptions, *, crs: str) -> tuple[Grid, Places, Pairs | None]:
    """Values [T, N], places, and the links' lengths.

    Raises:
        FeedError: A key is missing, series of different length, values that are no numbers.
    """
    document = read_json(file)
    try:
        nodes = document[options.nodes]
        ids = [str(node[options.id]) for node in nodes]
        series = [node[options.values] for node in nodes]
        lon, lat = _positions(nodes, options, crs, file.name)
        pairs = None if options.links is None else _pairs(document[options.links], ids, options)
        lengths = {len(one) for one in series}
    except (KeyError, TypeError, IndexError, ValueError, OverflowError) as error:
        raise FeedError(
            "not the node-link JSON that the options describe",
            where=file.name,
            got=f"{type(error).__name__}: {error}",
            next_step="check the option nodes",
        ) from None
    if len(lengths) != 1:
        raise FeedError(
            "series of different length", where=file.name, got=", ".join(map(str, sorted(lengths)[:5])) or "none"
        )
    try:
        values = np.array(series, dtype=np.float64).T
    except (ValueError, TypeError, OverflowError) as error:
        raise FeedError("values that are no numbers", where=file.name, got=str(error)) from None
    return Grid(values=values), Places(ids=ids, lon=lon, lat=lat), pairs


def _positions(
    nodes: list[dict[str, Any]], options: NodeLinkOptions, crs: str, where: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if options.lon is None or options.lat is None:
        return None, None
    x, y = (np.array([node[key] for node in nodes], dtype=np.float64) for key in (options.lon, options.lat))
    return to_wgs84(x, y, crs, where=where)


def _pairs(edges: list[dict[str, Any]], ids: list[str], options: NodeLinkOptions) -> Pairs:
    index = {one: at for at, one in enumerate(ids)}
    return Pairs(
        origin=np.array([index[str(edge[options.source])] for edge in edges], dtype=np.intp),
        target=np.array([index[str(edge[options.target])] for edge in edges], dtype=np.intp),
        value=np.array([edge[options.distance] for edge in edges], dtype=np.float64),
        complete=False,
    )
