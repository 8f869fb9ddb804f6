"""Measured data and site tables of DATEX II."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mtgpt.errors import FeedError
from tests.ingest.datex2_feeds import (
    HEAD,
    TIME,
    characteristics,
    container,
    flow,
    measurements,
    payload,
    quantity,
    site,
    sites,
    soap,
    speed,
    write_measured,
)
from tests.ingest.feed_files import judged, read

MEASURED = "roa:MeasuredDataPublication"
SEVEN = datetime(2026, 1, 5, 7, tzinfo=UTC)
TWO_VALUES = measurements("A2", quantity(1, flow(360)), quantity(2, speed(97.5)))


def written(folder, document: str, name: str = "measured.xml"):
    path = folder / name
    path.write_text(document, encoding="utf-8")
    return path


def values(folder, *bodies: str, **options) -> list[tuple]:
    """Spot, variable, value of the sound rows."""
    path = written(folder, payload(MEASURED, "".join(bodies)))
    return rows(judged("observation", read("datex2", path, **options)["observation"]).good)


def rows(frame) -> list[tuple]:
    return [
        (spot, variable, round(value, 4))
        for spot, variable, value in frame.select("spot_id", "variable", "value").rows()
    ]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(payload(MEASURED, TWO_VALUES), id="d2:payload"),
        pytest.param(container((MEASURED, TWO_VALUES)), id="messageContainer"),
        pytest.param(soap(payload(MEASURED, TWO_VALUES)), id="SOAP envelope"),
        pytest.param(soap(container((MEASURED, TWO_VALUES))), id="container in an envelope"),
        pytest.param(payload(MEASURED, TWO_VALUES).replace("roa:", "x:").replace("xmlns:roa", "xmlns:x"), id="another prefix"),
    ],
)  # fmt: skip
def test_values_are_read_in_every_wrapping(tmp_path, document):
    frame = read("datex2", written(tmp_path, document))["observation"]
    good = judged("observation", frame).good
    assert rows(good) == [("A2/1", "flow", 360.0), ("A2/2", "speed", 97.5)]
    # The time of a measurement is that of its end where the feed does not say.
    assert good["time_start"].to_list() == [SEVEN] * 2
    assert good["interval_s"].to_list() == [60] * 2


def test_every_quantity_is_in_the_unit_of_its_variable(tmp_path):
    concentration = (
        '<roa:basicData xsi:type="roa:TrafficConcentration"><roa:concentration><com:concentrationOfVehicles>21'
        "</com:concentrationOfVehicles></roa:concentration><roa:occupancy><com:percentage>12.5</com:percentage>"
        "</roa:occupancy></roa:basicData>"
    )
    travel = (
        '<roa:basicData xsi:type="roa:TravelTimeData"><roa:travelTime><com:duration>312.4</com:duration></roa:travelTime>'
        "<roa:normallyExpectedTravelTime><com:duration>240</com:duration></roa:normallyExpectedTravelTime></roa:basicData>"
    )
    weather = '<roa:basicData xsi:type="roa:TemperatureInformation"><roa:temperature><roa:airTemperature><com:temperature>3</com:temperature></roa:airTemperature></roa:temperature></roa:basicData>'
    body = measurements("A2", quantity(1, concentration), quantity(2, travel), quantity(3, weather))
    assert values(tmp_path, body) == [
        ("A2/1", "density", 21.0), ("A2/1", "occupancy", 0.125), ("A2/2", "travel_time", 312.4),
    ]  # fmt: skip


def test_version_2_is_read_too_and_its_reference_values_are_not_taken_for_measured(tmp_path):
    document = (
        f'{HEAD}<d2LogicalModel xmlns="http://datex2.eu/schema/2/2_0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'modelBaseVersion="2"><exchange><supplierIdentification><country>nl</country></supplierIdentification></exchange>'
        '<payloadPublication xsi:type="MeasuredDataPublication" lang="nl"><publicationTime>2026-01-05T07:02:00Z'
        '</publicationTime><siteMeasurements><measurementSiteReference id="PNB05" version="1" '
        'targetClass="MeasurementSiteRecord"/><measurementTimeDefault>2026-01-05T08:01:00+01:00</measurementTimeDefault>'
        '<measuredValue index="1"><measuredValue><basicData xsi:type="TravelTimeData"><travelTime '
        'numberOfInputValuesUsed="9"><duration>95.0</duration></travelTime></basicData><measuredValueExtension>'
        "<measuredValueExtended><basicDataReferenceValue><travelTimeData><travelTime><duration>60</duration></travelTime>"
        "</travelTimeData></basicDataReferenceValue></measuredValueExtended></measuredValueExtension></measuredValue>"
        "</measuredValue></siteMeasurements></payloadPublication></d2LogicalModel>"
    )
    good = judged("observation", read("datex2", written(tmp_path, document))["observation"]).good
    assert rows(good) == [("PNB05/1", "travel_time", 95.0)]
    assert good["time_start"].to_list() == [SEVEN]


def test_gzip_is_read_as_it_comes(tmp_path):
    path = tmp_path / "measured.xml.gz"
    path.write_bytes(gzip.compress(payload(MEASURED, TWO_VALUES).encode()))
    assert read("datex2", path)["observation"].height == 2


@pytest.mark.parametrize(
    ("time", "start", "interval_s"),
    [
        ("<roa:timeMeaning>beginTime</roa:timeMeaning><roa:timeValue>2026-01-05T07:00:20.5Z</roa:timeValue>", SEVEN, 60),
        ("<roa:timeMeaning>endTime</roa:timeMeaning><roa:timeValue>2026-01-05T07:01:00Z</roa:timeValue>", SEVEN, 60),
        ("<roa:timeMeaning>middleTime</roa:timeMeaning><roa:timeValue>2026-01-05T07:00:30Z</roa:timeValue>", SEVEN, 60),
        ("<roa:period><com:startOfPeriod>2026-01-05T07:00:00Z</com:startOfPeriod><com:endOfPeriod>2026-01-05T07:05:00Z</com:endOfPeriod></roa:period>", SEVEN, 300),
        ("<roa:period><com:endOfPeriod>2026-01-05T07:01:00Z</com:endOfPeriod></roa:period>", SEVEN, 60),
    ],
)  # fmt: skip
def test_a_time_is_what_the_feed_says_it_means(tmp_path, time, start, interval_s):
    body = measurements(
        "A2", quantity(1, flow(1)), time=f"<roa:measurementTimeDefault>{time}</roa:measurementTimeDefault>"
    )
    frame = read("datex2", written(tmp_path, payload(MEASURED, body)))["observation"]
    assert frame.select("time_start", "interval_s").rows() == [(start, interval_s)]


def test_a_value_of_its_own_time_does_not_take_the_default(tmp_path):
    own = "<roa:measurementOrCalculationTime><roa:timeValue>2026-01-05T06:31:00Z</roa:timeValue></roa:measurementOrCalculationTime>"
    body = measurements("A2", quantity(1, flow(1, time=own)), quantity(2, flow(2)))
    frame = read("datex2", written(tmp_path, payload(MEASURED, body)))["observation"]
    assert frame["time_start"].dt.strftime("%H:%M").to_list() == ["06:30", "07:00"]


def test_a_time_without_an_offset_is_the_citys(tmp_path):
    body = measurements("A2", quantity(1, flow(1)), time=TIME.replace("07:01:00Z", "08:01:00"))
    frame = read("datex2", written(tmp_path, payload(MEASURED, body)), zone="Europe/Amsterdam")["observation"]
    assert frame["time_start"].to_list() == [SEVEN]


def test_what_was_not_measured_has_no_row(tmp_path):
    body = measurements(
        "A2",
        quantity(1, speed(-1)),
        quantity(2, speed(0, 'numberOfInputValuesUsed="0"')),
        quantity(3, flow(0, 'numberOfInputValuesUsed="0"')),
        quantity(4, '<roa:basicData xsi:type="roa:TrafficFlow"/>', fault="<roa:physicalQuantityFault/>"),
        quantity(5, speed(0, 'numberOfInputValuesUsed="3"')),
    )
    # A flow of nothing is a zero, a speed of nobody is not.
    assert values(tmp_path, body) == [("A2/3", "flow", 0.0), ("A2/5", "speed", 0.0)]


def test_what_the_feed_calls_faulty_is_quarantined_by_name(tmp_path):
    fault = "<roa:physicalQuantityFault><roa:physicalQuantityFaultType>spuriousUnreliableDataValues</roa:physicalQuantityFaultType></roa:physicalQuantityFault>"
    body = measurements(
        "A2",
        quantity(1, flow(10, inside="<com:dataError>true</com:dataError>")),
        quantity(2, flow(10), fault=fault),
        quantity(3, flow(10, 'numberOfIncompleteInputs="3" numberOfInputValuesUsed="2"')),
        quantity(4, flow(10, 'numberOfIncompleteInputs="4"')),
        quantity(5, flow("many")),
        quantity(6, flow(10, inside="<com:dataError>false</com:dataError>")),
        quantity(7, flow(10, 'numberOfIncompleteInputs="1" numberOfInputValuesUsed="3"')),
        quantity(8, flow(999_999)),
    )
    verdict = judged("observation", read("datex2", written(tmp_path, payload(MEASURED, body)))["observation"])
    assert dict(verdict.bad.select("row", "rule_id").rows()) == {
        0: "data_error", 1: "data_error", 2: "inputs_incomplete", 3: "inputs_incomplete", 4: "number_unreadable",
        7: "value.variable_range",
    }  # fmt: skip
    assert verdict.good.select("spot_id", "quality").rows() == [("A2/6", None), ("A2/7", 0.75)]
    assert json.loads(verdict.bad["raw"][0])["site"] == "A2"


def test_errors_that_the_feed_declares_can_be_taken_for_not_measured(tmp_path):
    body = measurements("A2", quantity(1, flow(10, inside="<com:dataError>true</com:dataError>")), quantity(2, flow(1)))
    assert values(tmp_path, body, data_errors="skip") == [("A2/2", "flow", 1.0)]


def test_rows_without_site_or_time_are_quarantined(tmp_path):
    body = measurements("", quantity(1, flow(1))) + measurements("A2", quantity(1, flow(1)), time="")
    verdict = judged("observation", read("datex2", written(tmp_path, payload(MEASURED, body)))["observation"])
    assert verdict.bad["rule_id"].to_list() == ["spot_id.required", "time_unreadable"]


LANES = site(
    "A2",
    characteristics(1, "trafficFlow", lane="lane1"),
    characteristics(2, "trafficSpeed", lane="lane1"),
    characteristics(3, "trafficFlow", lane="lane2"),
    characteristics(4, "trafficFlow", lane="lane2", vehicles="lorry"),
    characteristics(5, "trafficFlow", lane="lane2", vehicles="5.6"),
)
VALUES = [flow(600), speed(100), flow(480), flow(60), flow(300)]


def test_a_site_table_tells_lanes_apart_and_leaves_classes_out(tmp_path):
    table = written(tmp_path, payload("roa:MeasurementSiteTablePublication", sites(LANES)), "sites.xml")
    body = measurements("A2", *(quantity(index, data) for index, data in enumerate(VALUES, start=1)))
    frames = read("datex2", written(tmp_path, payload(MEASURED, body)), files={"sites": table})
    assert rows(frames["observation"]) == [
        ("A2/lane1", "flow", 600.0), ("A2/lane1", "speed", 100.0), ("A2/lane2", "flow", 480.0),
    ]  # fmt: skip
    spot = judged("spot", frames["spot"]).good
    assert spot.select("spot_id", "kind", "mode", "name", "lon", "lat").rows() == [
        (f"A2/lane{lane}", "detector", "road", "A2 hmp 63.1", 5.12, 52.09) for lane in (1, 2)
    ]
    assert json.loads(spot["attributes"][1]) == {
        "lane": "lane2", "lanes": 2, "road": "A2", "carriageway": "mainCarriageway", "bearing_deg": 180,
    }  # fmt: skip


def test_classes_of_vehicles_are_spots_of_their_own_where_wanted(tmp_path):
    table = written(tmp_path, payload("roa:MeasurementSiteTablePublication", sites(LANES)), "sites.xml")
    body = measurements("A2", *(quantity(index, data) for index, data in enumerate(VALUES, start=1)))
    frames = read("datex2", written(tmp_path, payload(MEASURED, body)), files={"sites": table}, vehicles="all")
    assert set(frames["observation"]["spot_id"]) == {"A2/lane1", "A2/lane2", "A2/lane2/lorry", "A2/lane2/lessThan5.6"}
    assert set(frames["spot"]["spot_id"]) == set(frames["observation"]["spot_id"])


def test_values_alike_without_named_lanes_are_numbered_by_the_table(tmp_path):
    described = [
        characteristics(index, "trafficFlow" if index % 2 else "trafficSpeed", period="300") for index in range(1, 5)
    ]
    table = written(
        tmp_path, payload("roa:MeasurementSiteTablePublication", sites(site("A2", *described))), "sites.xml"
    )
    # The first pair of values did not come: the second must not move up.
    body = measurements("A2", quantity(3, flow(480)), quantity(4, speed(90)))
    frames = read("datex2", written(tmp_path, payload(MEASURED, body)), files={"sites": table})
    assert rows(frames["observation"]) == [("A2/2", "flow", 480.0), ("A2/2", "speed", 90.0)]
    assert frames["observation"]["interval_s"].to_list() == [300, 300]
    assert frames["spot"]["spot_id"].to_list() == ["A2/1", "A2/2"]


def test_a_site_of_one_lane_is_one_spot(tmp_path):
    described = [characteristics(1, "trafficFlow", lane="lane1"), characteristics(2, "trafficSpeed", lane="lane1")]
    table = written(
        tmp_path, payload("roa:MeasurementSiteTablePublication", sites(site("A2", *described))), "sites.xml"
    )
    frames = read("datex2", written(tmp_path, payload(MEASURED, TWO_VALUES)), files={"sites": table})
    assert rows(frames["observation"]) == [("A2", "flow", 360.0), ("A2", "speed", 97.5)]


def test_sites_and_values_may_come_in_one_file(tmp_path):
    described = site("A2", characteristics(1, "trafficFlow"), characteristics(2, "trafficSpeed"))
    document = container(("roa:MeasurementSiteTablePublication", sites(described)), (MEASURED, TWO_VALUES))
    frames = read("datex2", written(tmp_path, document))
    assert rows(frames["observation"]) == [("A2", "flow", 360.0), ("A2", "speed", 97.5)]
    assert frames["spot"]["spot_id"].to_list() == ["A2"]


def test_a_site_without_a_sound_place_is_a_spot_without_one(tmp_path):
    table = payload("roa:MeasurementSiteTablePublication", sites(site("A2", lat="north"), site("A3", lat=123)))
    verdict = judged("spot", read("datex2", written(tmp_path, table))["spot"])
    assert verdict.good.select("spot_id", "lon", "lat").rows() == [("A2", None, None), ("A3", None, None)]


def resident() -> int:
    """Bytes of memory in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "measured.xml"
    expected = write_measured(path, 24 << 20)
    height, before, worst = 0, resident(), 0
    for chunk in chunks_of(path):
        height += chunk.frame.height
        worst = max(worst, resident())
    assert height == expected
    # Its elements, all at once, would take ten times the file.
    assert worst - before < 40 << 20


def chunks_of(path):
    """Chunks of a file, none kept."""
    from mtgpt.ingest.adapter import DATA, FeedContext
    from mtgpt.ingest.feeds.datex2.adapter import Datex2Adapter
    from mtgpt.ingest.feeds.datex2.options import Datex2Options
    from tests.ingest.feed_files import RECEIVED, feed_file

    context = FeedContext(city_id="town", time_zone="UTC", source_id="feed", received_at=RECEIVED, salt=b"s")
    return Datex2Adapter().read({DATA: feed_file(path)}, Datex2Options(), context)


def test_a_file_cut_off_is_refused(tmp_path):
    whole = payload(MEASURED, TWO_VALUES)
    with pytest.raises(FeedError, match="damaged or cut off"):
        read("datex2", written(tmp_path, whole[: len(whole) * 2 // 3]))
