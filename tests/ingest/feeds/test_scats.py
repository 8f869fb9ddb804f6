from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from xml.sax.saxutils import escape

import polars as pl
import pytest

from mtgpt.errors import FeedError
from tests.ingest.feed_files import judged, read

MELBOURNE = "Australia/Melbourne"
NAMES = ["SCATS Number", "Location", "CD_MELWAY", "NB_LATITUDE", "NB_LONGITUDE", "HF VicRoads Internal", "VR Internal Stat", "VR Internal Loc", "NB_TYPE_SURVEY", "Date"]  # fmt: skip
HEADERS = [["", *[""] * 8, "Start Time", *["0:00"] * 96], [*NAMES, *[f"V{slot:02d}" for slot in range(96)]]]


def day(
    date: str,
    counts,
    *,
    site="0970",
    location="WARRIGAL_RD N of HIGH STREET_RD",
    lat="-37.86703",
    lon="145.09159",
    point="1",
):
    return [site, location, "060 G10", lat, lon, "249", "182", point, "1", date, *(str(count) for count in counts)]


def scats_csv(folder, *rows):
    path = folder / "Scats_Data_October_2006.csv"
    path.write_text("\ufeff" + "\n".join(",".join(row) for row in [*HEADERS, *rows]) + "\n", encoding="utf-8")
    return path


def scats_xlsx(folder, *rows):
    """A workbook by hand: a sheet of notes, then the sheet Data."""

    def sheet(table) -> str:
        cells = (
            "<row>" + "".join(f'<c t="inlineStr"><is><t>{escape(cell)}</t></is></c>' for cell in row) + "</row>"
            for row in table
        )
        return f'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{"".join(cells)}</sheetData></worksheet>'

    kinds = "http://schemas.openxmlformats.org"
    path = folder / "Scats_Data_October_2006.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{kinds}/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/><Override PartName="/xl/worksheets/sheet2.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>',
        )
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{kinds}/package/2006/relationships"><Relationship Id="r1" Type="{kinds}/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{kinds}/spreadsheetml/2006/main" xmlns:r="{kinds}/officeDocument/2006/relationships"><sheets><sheet name="Notes" sheetId="1" r:id="r1"/><sheet name="Data" sheetId="2" r:id="r2"/></sheets></workbook>',
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{kinds}/package/2006/relationships"><Relationship Id="r1" Type="{kinds}/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" Type="{kinds}/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet2.xml"/></Relationships>',
        )
        book.writestr("xl/worksheets/sheet1.xml", sheet([["Request:"]]))
        book.writestr("xl/worksheets/sheet2.xml", sheet([*HEADERS, *rows]))
    return path


@pytest.mark.parametrize(("write", "date"), [(scats_csv, "10/1/2006"), (scats_xlsx, "2006-10-01 00:15:00")])
def test_a_line_of_96_counts_becomes_hourly_rates_by_quarters(tmp_path, write, date):
    frames = read("scats", write(tmp_path, day(date, range(96))), zone=MELBOURNE)
    verdict = judged("observation", frames["observation"])
    assert verdict.bad.height == 0
    good = verdict.good.sort("time_start")
    assert good["value"].to_list() == [4.0 * count for count in range(96)]
    assert good["time_start"][0] == datetime(2006, 9, 30, 14, tzinfo=UTC)
    assert good["time_start"].diff().drop_nulls().dt.total_seconds().unique().to_list() == [900]
    assert good.select("spot_id", "variable", "interval_s").unique().rows() == [("0970-1", "flow", 900)]


def test_on_the_day_the_clocks_go_forward_the_counts_follow_each_other_without_a_gap(tmp_path):
    # As in October 2006: nothing could be booked at 02:00, 02:15, 02:30 and 02:45.
    counts = [0 if slot in {7, 8, 9, 10} else slot + 1 for slot in range(96)]
    verdict = judged(
        "observation", read("scats", scats_csv(tmp_path, day("10/29/2006", counts)), zone=MELBOURNE)["observation"]
    )
    good = verdict.good.sort("time_start")
    assert good["time_start"].diff().drop_nulls().dt.total_seconds().unique().to_list() == [900]
    assert [count / 4 for count in good["value"][5:9]] == [6, 7, 12, 13]
    assert verdict.bad["rule_id"].unique().to_list() == ["time_does_not_exist"]
    assert sorted(json.loads(raw)["slot"] for raw in verdict.bad["raw"]) == ["V07", "V08", "V09", "V10"]


def test_counts_booked_at_the_start_of_their_quarter_can_be_had(tmp_path):
    path = scats_csv(tmp_path, day("10/29/2006", range(96)))
    bad = judged("observation", read("scats", path, zone=MELBOURNE, stamp="start")["observation"]).bad
    assert sorted(json.loads(raw)["slot"] for raw in bad["raw"]) == ["V08", "V09", "V10", "V11"]


def test_two_approaches_with_the_same_words_stay_two_spots_and_a_repeated_day_is_a_duplicate(tmp_path):
    same = {"site": "4335", "location": "HIGH_ST NE of CHARLES_ST"}
    path = scats_csv(
        tmp_path,
        day("10/1/2006", [1] * 96, point="2", **same),
        day("10/1/2006", [2] * 96, point="6", **same),
        day("10/1/2006", [9] * 96, point="6", **same),
    )
    verdict = judged("observation", read("scats", path, zone=MELBOURNE)["observation"])
    assert verdict.duplicates == 96
    assert dict(verdict.good.group_by("spot_id").agg(pl.col("value").mean()).iter_rows()) == {
        "4335-2": 4.0,
        "4335-6": 8.0,
    }


def test_a_place_of_zeros_is_unknown_and_the_site_listing_names_the_crossing(tmp_path):
    listing = tmp_path / "sites.csv"
    listing.write_text("SCATS  Site Listing,,\n,,\nSite Number,Location Description,Site Type\n970,HIGH/WARRIGAL,INT\n")
    path = scats_csv(
        tmp_path, day("10/1/2006", [1] * 96), day("10/1/2006", [1] * 96, site="4266", point="3", lat="0", lon="0")
    )
    spot = judged("spot", read("scats", path, zone=MELBOURNE, files={"sites": listing})["spot"]).good
    assert spot.select("spot_id", "lat", "lon", "name", "attributes").rows() == [
        (
            "0970-1",
            -37.86703,
            145.09159,
            "WARRIGAL_RD N of HIGH STREET_RD",
            '{"crossing": "HIGH/WARRIGAL", "site": "0970"}',
        ),
        ("4266-3", None, None, "WARRIGAL_RD N of HIGH STREET_RD", '{"site": "4266"}'),
    ]


def test_an_empty_cell_has_no_row_and_a_text_is_quarantined(tmp_path):
    counts = ["", "x", "-1", *["5"] * 93]
    verdict = judged(
        "observation", read("scats", scats_csv(tmp_path, day("10/1/2006", counts)), zone=MELBOURNE)["observation"]
    )
    assert verdict.good.height == 93
    assert sorted(verdict.bad["rule_id"]) == ["number_unreadable", "value.variable_range"]


def test_a_day_whose_date_cannot_be_read_is_quarantined_whole(tmp_path):
    verdict = judged(
        "observation", read("scats", scats_csv(tmp_path, day("29/10/2006", [1] * 96)), zone=MELBOURNE)["observation"]
    )
    assert verdict.bad["rule_id"].value_counts().rows() == [("time_unreadable", 96)]


def test_files_without_the_table_are_refused_with_one_sentence(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(FeedError, match="no SCATS table"):
        read("scats", path, zone=MELBOURNE)
    path.write_text("")
    with pytest.raises(FeedError, match="the file is empty"):
        read("scats", path, zone=MELBOURNE)
    broken = scats_xlsx(tmp_path, day("10/1/2006", [1] * 96))
    broken.write_bytes(broken.read_bytes()[:900])
    with pytest.raises(FeedError):
        read("scats", broken, zone=MELBOURNE)
