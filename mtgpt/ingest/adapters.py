"""Every family of feeds that a manifest may name as the ``kind`` of a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtgpt.ingest.bike_trips import BikeTripsAdapter
from mtgpt.ingest.charged import ChargedAdapter
from mtgpt.ingest.datex2 import Datex2Adapter
from mtgpt.ingest.documents import DocumentsAdapter
from mtgpt.ingest.gbfs import GbfsAdapter
from mtgpt.ingest.gtfs import GtfsAdapter
from mtgpt.ingest.gtfs_rt import GtfsRtAdapter
from mtgpt.ingest.isd_lite import IsdLiteAdapter
from mtgpt.ingest.matrix import MatrixAdapter
from mtgpt.ingest.open_meteo import OpenMeteoAdapter
from mtgpt.ingest.osm import OsmAdapter
from mtgpt.ingest.pems import PemsAdapter
from mtgpt.ingest.scats import ScatsAdapter
from mtgpt.ingest.tlc import TlcAdapter
from mtgpt.ingest.weather_table import WeatherTableAdapter
from mtgpt.ingest.wzdx import WzdxAdapter

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
