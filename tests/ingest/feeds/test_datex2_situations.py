"""Situations of DATEX II as events."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.ingest.datex2_feeds import container, payload
from tests.ingest.feed_files import judged, read

SITUATION = "sit:SituationPublication"
POINT = (
    "<loc:pointByCoordinates><loc:pointCoordinates><loc:latitude>{lat}</loc:latitude>"
    "<loc:longitude>{lon}</loc:longitude></loc:pointCoordinates></loc:pointByCoordinates>"
)
HERE = (
    f'<sit:locationReference xsi:type="loc:PointLocation">{POINT.format(lat=52.09, lon=5.12)}</sit:locationReference>'
)
VALIDITY = (
    "<sit:validity><com:validityStatus>definedByValidityTimeSpec</com:validityStatus><com:validityTimeSpecification>"
    "<com:overallStartTime>2026-01-05T07:12:00+01:00</com:overallStartTime>"
    "<com:overallEndTime>2026-01-05T09:00:00+01:00</com:overallEndTime></com:validityTimeSpecification></sit:validity>"
)


def comment(*texts: tuple[str, str], element: str = "generalPublicComment") -> str:
    values = "".join(f'<com:value lang="{lang}">{text}</com:value>' for lang, text in texts)
    return f"<sit:{element}><sit:comment><com:values>{values}</com:values></sit:comment></sit:{element}>"


def record(kind: str, body: str, *, record_id: str = "R1", version: str = "2026-01-05T06:20:00Z") -> str:
    return (
        f'<sit:situationRecord xsi:type="sit:{kind}" id="{record_id}" version="3">'
        f"<sit:situationRecordVersionTime>{version}</sit:situationRecordVersionTime>"
        f"<sit:probabilityOfOccurrence>certain</sit:probabilityOfOccurrence>{body}</sit:situationRecord>"
    )


def situation(*records: str, severity: str = "") -> str:
    overall = f"<sit:overallSeverity>{severity}</sit:overallSeverity>" if severity else ""
    return f'<sit:situation id="S1">{overall}{"".join(records)}</sit:situation>'


def events(folder, *situations: str, zone: str = "UTC", **options):
    path = folder / "situations.xml"
    path.write_text(payload(SITUATION, "".join(situations)), encoding="utf-8")
    return judged("event", read("datex2", path, zone=zone, **options)["event"])


def test_an_accident_is_an_event_with_its_place_time_and_facts(tmp_path):
    body = (
        VALIDITY
        + "<sit:impact><sit:numberOfLanesRestricted>1</sit:numberOfLanesRestricted><sit:trafficConstrictionType>"
        + "roadPartiallyObstructed</sit:trafficConstrictionType></sit:impact>"
        + comment(("nl", "Linkerrijstrook dicht."))
        + HERE
        + "<sit:accidentType>multivehicleAccident</sit:accidentType>"
    )
    (row,) = events(tmp_path, situation(record("Accident", body), severity="high")).good.to_dicts()
    assert json.loads(row.pop("attributes")) == {
        "lanes_restricted": 1.0, "probability": "certain", "situation": "S1", "status": "definedByValidityTimeSpec",
        "type": "Accident", "version": "3",
    }  # fmt: skip
    assert row == {
        "city_id": "town", "source_id": "feed", "event_id": "R1", "language": "nl", "kind": "incident",
        "severity": "high", "cause": "multivehicleAccident", "effect": "roadPartiallyObstructed", "title": "Accident",
        "text": "Linkerrijstrook dicht.", "start": datetime(2026, 1, 5, 6, 12, tzinfo=UTC),
        "end": datetime(2026, 1, 5, 8, tzinfo=UTC), "lon": 5.12, "lat": 52.09, "geometry": "POINT (5.12 52.09)",
        "spots": None, "routes": None, "url": None, "valid_from": datetime(2026, 1, 5, 6, 20, tzinfo=UTC),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "inside", "expected"),
    [
        ("MaintenanceWorks", "", "works"),
        ("ConstructionWorks", "", "works"),
        ("AbnormalTraffic", "<sit:abnormalTrafficType>queuingTraffic</sit:abnormalTrafficType>", "congestion"),
        ("PoorEnvironmentConditions", "", "weather"),
        ("PublicEvent", "", "planned_event"),
        ("VehicleObstruction", "", "incident"),
        (
            "RoadOrCarriagewayOrLaneManagement",
            "<sit:roadOrCarriagewayOrLaneManagementType>roadClosed</sit:roadOrCarriagewayOrLaneManagementType>",
            "closure",
        ),
        (
            "RoadOrCarriagewayOrLaneManagement",
            "<sit:roadOrCarriagewayOrLaneManagementType>narrowLanes</sit:roadOrCarriagewayOrLaneManagementType>",
            "other",
        ),
        ("ReroutingManagement", "", "other"),
        ("SomethingOfTomorrow", "", "other"),
    ],
)
def test_records_are_of_the_kind_that_their_type_says(tmp_path, kind, inside, expected):
    good = events(tmp_path, situation(record(kind, HERE + inside))).good
    assert good["kind"].to_list() == [expected]


def test_there_is_a_row_for_each_language_of_the_comments(tmp_path):
    body = (
        comment(("nl", "Brug open"), ("en", "Bridge open")) + comment(("nl", "Tot 9 uur"), ("", "Ohne Sprache")) + HERE
    )
    good = events(tmp_path, situation(record("GeneralObstruction", body))).good
    # A text without a language is in that of the publication.
    assert dict(good.select("language", "text").rows()) == {
        "nl": "Brug open\nTot 9 uur\nOhne Sprache", "en": "Bridge open",
    }  # fmt: skip


def test_comments_for_the_authorities_are_never_read(tmp_path):
    body = comment(("nl", "Bel Jan 06-12345678"), element="nonGeneralPublicComment") + HERE
    good = events(tmp_path, situation(record("Accident", body))).good
    assert good.select("language", "text").rows() == [("nl", None)]
    assert "Jan" not in str(good.to_dicts())


def test_the_severity_of_a_situation_holds_for_its_own_records_only(tmp_path):
    first = situation(record("Accident", HERE, record_id="R1"), severity="highest")
    second = situation(record("Accident", HERE, record_id="R2"))
    own = situation(record("Accident", "<sit:severity>low</sit:severity>" + HERE, record_id="R3"), severity="high")
    good = events(tmp_path, first, second, own).good
    assert good["severity"].to_list() == ["highest", None, "low"]


def test_payloads_of_several_kinds_are_each_read(tmp_path):
    path = tmp_path / "both.xml"
    path.write_text(
        container(
            (SITUATION, situation(record("Accident", HERE))),
            (SITUATION, situation(record("PublicEvent", HERE, record_id="R9"))),
        )
    )
    assert read("datex2", path)["event"]["event_id"].to_list() == ["R1", "R9"]


LINE = "<loc:gmlLineString srsName='EPSG:4326'><loc:posList>{}</loc:posList></loc:gmlLineString>"
TPEG = (
    "<loc:tpegLinearLocation><loc:to xsi:type='loc:TpegJunction'><loc:pointCoordinates><loc:latitude>52.2</loc:latitude>"
    "<loc:longitude>5.2</loc:longitude></loc:pointCoordinates></loc:to><loc:from xsi:type='loc:TpegJunction'>"
    "<loc:pointCoordinates><loc:latitude>52.1</loc:latitude><loc:longitude>5.1</loc:longitude></loc:pointCoordinates>"
    "</loc:from></loc:tpegLinearLocation>"
)
OPENLR = (
    "<loc:openlrLinear><loc:firstDirection><loc:openlrLineLocationReference><loc:openlrLocationReferencePoint>"
    "<loc:openlrCoordinate><loc:latitude>52.1</loc:latitude><loc:longitude>5.1</loc:longitude></loc:openlrCoordinate>"
    "</loc:openlrLocationReferencePoint><loc:openlrLastLocationReferencePoint><loc:openlrCoordinate><loc:latitude>52.2"
    "</loc:latitude><loc:longitude>5.2</loc:longitude></loc:openlrCoordinate></loc:openlrLastLocationReferencePoint>"
    "</loc:openlrLineLocationReference></loc:firstDirection></loc:openlrLinear>"
)
DISPLAY = "<loc:coordinatesForDisplay><loc:latitude>52.15</loc:latitude><loc:longitude>5.15</loc:longitude></loc:coordinatesForDisplay>"
ITINERARY = "<loc:locationContainedInItinerary index='{}'><loc:location xsi:type='loc:LinearLocation'>{}</loc:location></loc:locationContainedInItinerary>"


@pytest.mark.parametrize(
    ("location", "wkt", "place"),
    [
        (LINE.format("52.1 5.1 52.2 5.2"), "LINESTRING (5.1 52.1, 5.2 52.2)", (5.15, 52.15)),
        (TPEG, "LINESTRING (5.1 52.1, 5.2 52.2)", (5.15, 52.15)),
        (OPENLR, "LINESTRING (5.1 52.1, 5.2 52.2)", (5.15, 52.15)),
        (DISPLAY, "POINT (5.15 52.15)", (5.15, 52.15)),
        (DISPLAY + POINT.format(lat=52.09, lon=5.12), "POINT (5.12 52.09)", (5.12, 52.09)),
        (
            ITINERARY.format(0, LINE.format("52.1 5.1 52.2 5.2"))
            + ITINERARY.format(1, LINE.format("52.3 5.3 52.6 5.6")),
            "MULTILINESTRING ((5.1 52.1, 5.2 52.2), (5.3 52.3, 5.6 52.6))",
            (5.45, 52.45),
        ),
        ("<loc:openlrBinary>CwRbWyNG9RpsCQ==</loc:openlrBinary>", None, (None, None)),
    ],
)
def test_locations_become_shapes_with_a_point_on_them(tmp_path, location, wkt, place):
    body = f"<sit:locationReference>{location}</sit:locationReference>"
    good = events(tmp_path, situation(record("Accident", body))).good
    assert good["geometry"].to_list() == [wkt]
    assert good.select("lon", "lat").row(0) == pytest.approx(place)


def test_lines_may_be_written_longitude_first(tmp_path):
    body = f"<sit:locationReference>{LINE.format('5.1 52.1 5.2 52.2')}</sit:locationReference>"
    good = events(tmp_path, situation(record("Accident", body)), lon_first=True).good
    assert good["geometry"].to_list() == ["LINESTRING (5.1 52.1, 5.2 52.2)"]


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (HERE.replace("52.09", "north"), "place_unreadable"),
        (HERE.replace("52.09", "95"), "place_unreadable"),
        (f"<sit:locationReference>{LINE.format('52.1 5.1 52.2')}</sit:locationReference>", "place_unreadable"),
        (HERE + VALIDITY.replace("2026-01-05T07:12:00+01:00", "this morning"), "time_unreadable"),
        (HERE + VALIDITY.replace("2026-01-05T07:12:00+01:00", "2026-01-06T07:12:00+01:00"), "end.order"),
    ],
)
def test_records_that_cannot_be_placed_or_dated_are_quarantined(tmp_path, body, rule):
    sound = record("Accident", HERE, record_id="R2")
    verdict = events(tmp_path, situation(record("Accident", body), sound))
    assert verdict.bad["rule_id"].to_list() == [rule]
    assert "R1" in verdict.bad["raw"][0]
    assert verdict.good["event_id"].to_list() == ["R2"]


def test_periods_of_validity_are_kept_and_an_ended_record_ends(tmp_path):
    periods = "".join(
        f"<com:validPeriod><com:startOfPeriod>2026-01-0{day}T20:00:00Z</com:startOfPeriod><com:endOfPeriod>2026-01-0{day + 1}T05:00:00Z</com:endOfPeriod></com:validPeriod>"
        for day in (5, 6)
    )
    validity = f"<sit:validity><com:validityTimeSpecification><com:overallStartTime>2026-01-05T20:00:00Z</com:overallStartTime>{periods}</com:validityTimeSpecification></sit:validity>"
    over = "<sit:management><com:lifeCycleManagement><com:end>true</com:end></com:lifeCycleManagement></sit:management>"
    body = validity + over + HERE
    (row,) = events(
        tmp_path, situation(record("MaintenanceWorks", body, version="2026-01-06T04:00:00Z"))
    ).good.to_dicts()
    assert row["end"] == datetime(2026, 1, 6, 4, tzinfo=UTC)
    assert len(json.loads(row["attributes"])["periods"]) == 2


def test_version_2_situations_are_read(tmp_path):
    path = tmp_path / "v2.xml"
    path.write_text(
        '<d2LogicalModel xmlns="http://datex2.eu/schema/2/2_0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        '<payloadPublication xsi:type="SituationPublication" lang="fi"><situation id="G1"><overallSeverity>medium'
        '</overallSeverity><situationRecord xsi:type="MaintenanceWorks" id="G1/1" version="1">'
        "<situationRecordVersionTime>2026-01-05T06:00:00Z</situationRecordVersionTime><generalPublicComment><comment>"
        '<values><value lang="fi">Tietyö</value></values></comment></generalPublicComment><groupOfLocations '
        'xsi:type="Point"><locationForDisplay><latitude>60.2</latitude><longitude>24.9</longitude></locationForDisplay>'
        "</groupOfLocations></situationRecord></situation></payloadPublication></d2LogicalModel>",
        encoding="utf-8",
    )
    good = judged("event", read("datex2", path)["event"]).good
    assert good.select("kind", "severity", "language", "text", "lon", "lat").rows() == [
        ("works", "medium", "fi", "Tietyö", 24.9, 60.2)
    ]
