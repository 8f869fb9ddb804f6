"""Every family of feeds that a manifest may name as the ``kind`` of a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtgpt.ingest.feeds.bike_trips import BikeTripsAdapter
from mtgpt.ingest.feeds.charged import ChargedAdapter
from mtgpt.ingest.feeds.datex2.adapter import Datex2Adapter
from mtgpt.ingest.feeds.documents import DocumentsAdapter
from mtgpt.ingest.feeds.gbfs.adapter import GbfsAdapter
from mtgpt.ingest.feeds.gtfs.adapter import GtfsAdapter
from mtgpt.ingest.feeds.gtfs_rt.adapter import GtfsRtAdapter
from mtgpt.ingest.feeds.matrix.adapter import MatrixAdapter
from mtgpt.ingest.feeds.osm.adapter import OsmAdapter
from mtgpt.ingest.feeds.pems.adapter import PemsAdapter
from mtgpt.ingest.feeds.scats import ScatsAdapter
from mtgpt.ingest.feeds.tlc import TlcAdapter
from mtgpt.ingest.feeds.weather.isd_lite import IsdLiteAdapter
from mtgpt.ingest.feeds.weather.open_meteo import OpenMeteoAdapter
from mtgpt.ingest.feeds.weather.table import WeatherTableAdapter
from mtgpt.ingest.feeds.wzdx import WzdxAdapter

if TYPE_CHECKING:
    from mtgpt.ingest.adapter import Adapter


def adapters() -> dict[str, Adapter]:
    """Adapters by kind."""
    return {
        "matrix": MatrixAdapter(),
        "tlc": TlcAdapter(),
        "bike_trips": BikeTripsAdapter(),
        "scats": ScatsAdapter(),
        "charged": ChargedAdapter(),
        "weather_table": WeatherTableAdapter(),
        "gbfs": GbfsAdapter(),
        "datex2": Datex2Adapter(),
        "wzdx": WzdxAdapter(),
        "open_meteo": OpenMeteoAdapter(),
        "isd_lite": IsdLiteAdapter(),
        "pems": PemsAdapter(),
        "osm": OsmAdapter(),
        "documents": DocumentsAdapter(),
        "gtfs": GtfsAdapter(),
        "gtfs_rt": GtfsRtAdapter(),
    }
