"""Small OpenStreetMap extracts, written for a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from osmium import SimpleWriter
from osmium.io import File
from osmium.osm import mutable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

NODES: Mapping[int, tuple[float, float]] = {
    1: (16.000, 48.0), 2: (16.001, 48.0), 3: (16.002, 48.0), 4: (16.003, 48.0),
    5: (16.001, 48.001), 6: (16.001, 47.999), 7: (16.002, 48.001), 8: (16.003, 48.001),
}  # fmt: skip
"""A street from west to east (1 to 4), one that crosses it at 2 (5, 6), and a block to the north of it (7, 8)."""


def write_pbf(
    path: Path,
    ways: Iterable[tuple[int, list[int], Mapping[str, str]]],
    nodes: Mapping[int, tuple[float, float]] = NODES,
    *,
    ways_first: bool = False,
) -> Path:
    """Writes ways (id, nodes, tags) and nodes."""
    path.unlink(missing_ok=True)
    with SimpleWriter(File(str(path), "pbf")) as writer:
        write_nodes = [lambda: [writer.add_node(mutable.Node(id=at, location=place)) for at, place in nodes.items()]]
        write_ways = [lambda: [writer.add_way(mutable.Way(id=at, nodes=refs, tags=tags)) for at, refs, tags in ways]]
        for step in (write_ways + write_nodes) if ways_first else (write_nodes + write_ways):
            step()
    return path
