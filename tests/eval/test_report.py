"""The report: one file, everything in it, nothing a feed wrote is ever markup."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtgpt.eval.report import write_report
from mtgpt.eval.report_html import el, number
from mtgpt.eval.report_scores import best_rule, is_ours, model_name
from mtgpt.eval.report_svg import Axes, map_class
from mtgpt.ingest.manifest import CityManifest
from mtgpt.model.forecast import Forecast
from mtgpt.panel.panel import Panel
from tests.synthetic import small_panel

VOID = {"meta", "br"}
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> & co \u0000"


class Reader(HTMLParser):
    """Collects elements, texts and attributes, and checks that every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def a_manifest(**changes) -> CityManifest:
    source = {"id": "roads", "kind": "matrix", "path": "roads.csv"}
    facts = {"city": "line", "name": "Line", "time_zone": "America/New_York", "simulated": True, "sources": (source,)}
    return CityManifest.model_validate(facts | changes)


def a_ledger() -> pl.DataFrame:
    row = {
        "files": '[{"role": "data", "name": "speed_w11.csv.gz"}, {"role": "locations", "name": "places.csv"}]',
        "batch_id": "b1", "city_id": "line", "source_id": "roads", "kind": "matrix", "status": "committed", "reason": None,
        "received_at": datetime(2024, 3, 5, tzinfo=UTC), "rows_in": 12345, "rows_good": 12340, "rows_quarantined": 3,
        "rows_duplicate": 2,
    }  # fmt: skip
    held = row | {"batch_id": "b2", "status": "held", "reason": "9 % of the rows are bad", "rows_good": 0, "rows_in": 5}
    return pl.DataFrame([row, held])


def a_quarantine(**changes) -> pl.DataFrame:
    row = {
        "source_id": "roads", "table_name": "observation", "rule_id": "value.variable_range", "raw": '{"value":-1}',
        "message": "value: got -1.0 km/h, expected 0 to 250 km/h for speed",
    }  # fmt: skip
    return pl.DataFrame([row | changes] * 3)


def some_scores() -> pl.DataFrame:
    rows = [
        {"model": model, "level": level, "variable": "speed", "unit": "km/h", "horizon_step": step, "mae": error + step / 10,
         "rmse": 2 * error, "wape": 0.1, "coverage80": 0.79 if model == "MT-GPT" else None, "n": 100}
        for model, error in (("MT-GPT", 2.0), ("last value", 3.0), ("same time last week", 2.5))
        for level in ("spot", "network")
        for step in range(13)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def a_forecast(panel: Panel, *, step: int = 700, horizon: int = 8, known: bool = True) -> Forecast:
    levels = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
    ahead = slice(step, step + horizon)
    values = np.asarray(panel.values)
    middle = np.nan_to_num(values[ahead].T, nan=60.0)[:, :, None]
    quantiles = (middle + np.linspace(-9, 9, len(levels))).astype(np.float32)
    return Forecast(
        city=panel.meta.city, at=panel.time[step], time=panel.time[ahead], interval_s=panel.meta.interval_s,
        time_zone=panel.meta.time_zone, series=panel.series, levels=levels, quantiles=quantiles,
        history_time=panel.time[step - 48 : step], history=values[step - 48 : step].T.copy(),
        observed=values[ahead].T.copy() if known else None,
        provenance={"panel_id": "p" * 64, "table_versions": {"observation": 7}, "model": "nano", "model_sha256": "f" * 64,
                    "window": ["2024-03-04T05:00:00Z", "2024-03-11T12:00:00Z"], "reconciliation": "wls"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def panel() -> Panel:
    return small_panel()


def written(path: Path, panel: Panel, **changes) -> str:
    facts = {
        "manifest": a_manifest(), "ledger": a_ledger(), "quarantine": a_quarantine(), "panel": panel,
        "forecasts": [a_forecast(panel)], "scores": some_scores(), "timings": {"ingest": 1.2, "train": 30.0},
    }  # fmt: skip
    return write_report(path / "deep" / "report.html", **(facts | changes)).read_text(encoding="utf-8")


def test_a_simulated_city_is_called_simulated_in_its_heading(tmp_path, panel):
    page = written(tmp_path, panel)
    assert re.search(r"<h1>Line.*simulated city.*</h1>", page)
    assert "No real place stands behind these numbers" in page


def test_a_real_city_is_not_called_simulated(tmp_path, panel):
    real = replace(panel, meta=replace(panel.meta, simulated=False))
    assert "simulated" not in written(tmp_path, real, manifest=a_manifest(simulated=False)).lower()


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(tmp_path, panel):
    reader = Reader(written(tmp_path, panel))
    tags = {tag for tag, _ in reader.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "img", "form", "base"}
    assert all(a["href"].startswith("#") for a in reader.all("a"))
    assert not any(name.startswith("on") for _, attributes in reader.elements for name in attributes)
    assert not re.search(r"https?://|url\(|@import", written(tmp_path, panel))


def test_every_element_is_closed_and_every_anchor_leads_somewhere(tmp_path, panel):
    reader = Reader(written(tmp_path, panel))
    assert reader.open == []
    ids = {attributes["id"] for _, attributes in reader.elements if "id" in attributes}
    assert {a["href"].removeprefix("#") for a in reader.all("a")} == ids == {
        "map", "forecasts", "scores", "data", "provenance"
    }  # fmt: skip


def test_every_picture_says_in_words_what_it_shows(tmp_path, panel):
    pictures = Reader(written(tmp_path, panel)).all("svg")
    assert len(pictures) >= 6
    assert all(picture["role"] == "img" and len(picture["aria-label"]) > 30 for picture in pictures)


def test_every_table_has_a_caption_and_headers_with_a_scope(tmp_path, panel):
    reader = Reader(written(tmp_path, panel))
    assert len(reader.all("caption")) == len(reader.all("table")) > 0
    assert all("scope" in header for header in reader.all("th"))


def test_what_feeds_wrote_is_shown_as_text_and_never_becomes_markup(tmp_path, panel):
    hostile = replace(panel, series=panel.series.with_columns(name=pl.lit(EVIL)))
    forecast = replace(a_forecast(panel), series=hostile.series, provenance={"model": EVIL, "window": [EVIL]})
    ledger = a_ledger().with_columns(source_id=pl.lit(EVIL), reason=pl.lit(EVIL), kind=pl.lit(EVIL))
    page = written(
        tmp_path, hostile, forecasts=[forecast], ledger=ledger, timings={EVIL: 1.0},
        quarantine=a_quarantine(message=EVIL, raw=EVIL, rule_id=EVIL, source_id=EVIL),
        scores=some_scores().with_columns(model=pl.lit(EVIL), unit=pl.lit(EVIL), variable=pl.lit(EVIL)),
        manifest=a_manifest(name=EVIL, description=EVIL, licence=EVIL),
    )  # fmt: skip
    reader = Reader(page)
    assert not reader.all("script")
    assert not reader.all("img")
    assert "\u0000" not in page
    assert "<script>alert(1)</script>" in reader.text


def test_the_ledger_shows_every_batch_its_arithmetic_and_the_sum(tmp_path, panel):
    text = Reader(written(tmp_path, panel)).text
    assert "12,345" in text
    assert "12,350" in text
    assert text.count("✓ yes") == 3
    assert "held: 9 % of the rows are bad" in text
    assert "speed_w11.csv.gz" in text
    assert "places.csv" not in text


@pytest.mark.parametrize("files", [None, "", "[]", "not json", '[{"name": 3}]', "7"])
def test_a_ledger_row_whose_files_are_unreadable_shows_its_kind(tmp_path, panel, files):
    ledger = a_ledger().with_columns(files=pl.lit(files, pl.String), kind=pl.lit("trip_counts"))
    assert "trip_counts" in Reader(written(tmp_path, panel, ledger=ledger)).text


def test_a_batch_that_does_not_add_up_is_marked(tmp_path, panel):
    text = Reader(written(tmp_path, panel, ledger=a_ledger().with_columns(rows_good=pl.lit(1)))).text
    assert "✗ no" in text


def test_the_quarantine_is_summed_by_rule_with_one_example(tmp_path, panel):
    page = written(tmp_path, panel)
    assert page.count("value.variable_range") == 1
    assert "expected 0 to 250 km/h for speed" in page
    assert "{&quot;value&quot;:-1}" in page or '{"value":-1}' in page


def test_the_heading_says_by_how_much_the_model_beats_the_best_simple_rule(tmp_path, panel):
    text = Reader(written(tmp_path, panel)).text
    assert "2.00 km/h" in text
    assert "20% less than the best simple rule (same time last week, 2.50)" in text


def test_a_model_that_loses_is_said_to_lose(tmp_path, panel):
    worse = some_scores().with_columns(mae=pl.when(pl.col("model") == "MT-GPT").then(5.0).otherwise(pl.col("mae")))
    assert "100% more than the best simple rule" in Reader(written(tmp_path, panel, scores=worse)).text


def test_times_are_the_citys_own(tmp_path, panel):
    at = np.datetime64("2024-03-11T12:00:00", "s")  # the Monday after clocks went forward: 08:00 in New York
    forecast = a_forecast(panel, step=int(np.searchsorted(panel.time, at)))
    assert "Made at 08:00 on Monday 11 March 2024" in written(tmp_path, panel, forecasts=[forecast])


def test_a_forecast_of_the_future_has_no_claim_of_what_happened(tmp_path, panel):
    text = Reader(written(tmp_path, panel, forecasts=[a_forecast(panel, known=False)])).text.lower()
    assert "what really happened" not in text
    assert "largest miss" not in text


def test_provenance_names_table_versions_window_and_model(tmp_path, panel):
    text = Reader(written(tmp_path, panel)).text
    for fact in ("observation version 7", "f" * 64, "p" * 64, "2024-03-04T05:00:00Z to 2024-03-11T12:00:00Z", "wls"):
        assert fact in text


def test_a_city_with_nothing_yet_gets_a_page_that_says_so(tmp_path, panel):
    page = written(
        tmp_path, panel, forecasts=[], scores=some_scores().clear(), ledger=a_ledger().clear(),
        quarantine=a_quarantine().clear(), timings={},
    )  # fmt: skip
    for sentence in (
        "There is no forecast to show.",
        "No scores were computed.",
        "Nothing was quarantined",
        "ledger is empty",
    ):
        assert sentence in page


def test_dead_spots_and_spots_without_a_place_do_not_spoil_the_page(tmp_path, panel):
    forecast = a_forecast(panel)
    quantiles, history, observed = forecast.quantiles.copy(), forecast.history.copy(), forecast.observed.copy()
    quantiles[0], history[0], observed[0] = np.nan, np.nan, np.nan
    dead = replace(forecast, quantiles=quantiles, history=history, observed=observed)
    nowhere = replace(dead, series=dead.series.with_columns(lon=pl.lit(None, pl.Float64)))
    for one in (dead, nowhere):
        page = written(tmp_path, panel, forecasts=[one])
        assert ">nan<" not in page.lower()
        assert 'points="nan' not in page


def test_a_failed_write_leaves_the_old_report(tmp_path, panel, monkeypatch):
    path = tmp_path / "deep" / "report.html"
    before = written(tmp_path, panel)

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        written(tmp_path, panel)
    assert path.read_text(encoding="utf-8") == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


@given(st.text())
def test_any_text_comes_back_as_the_same_text(text):
    printable = "".join(c for c in text if c.isprintable() or c in "\n\t")
    reader = Reader(str(el("p", text, title=text)))
    assert reader.text == printable
    assert reader.all("p") == [{"title": printable}]


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_number_is_never_shown_as_nan_or_inf(value):
    assert not re.search("nan|inf", number(value))


def test_numbers_have_the_digits_that_matter():
    assert [number(v) for v in (12345.6, 63.44, 0.123, -2.0, None)] == ["12,346", "63.4", "0.12", "\u22122.00", "–"]


def test_map_classes_run_from_jammed_to_free():
    assert [map_class(share) for share in (0.1, 0.5, 0.7, 0.8, 1.2, float("nan"))] == [0, 1, 2, 3, 4, None]


def test_a_gap_in_the_data_is_a_gap_in_the_line():
    axes = Axes(x=(0, 3), y=(0, 1))
    assert [len(run.split()) for run in axes.points([0, 1, 2, 3], [0.1, float("nan"), 0.2, 0.3])] == [1, 2]


def test_without_our_scores_there_is_no_comparison():
    assert best_rule(some_scores().filter(pl.col("model") != "MT-GPT")) is None


def test_models_have_names_for_people():
    assert model_name("last value") == "Last value"
    assert is_ours("MT-GPT")
    assert is_ours("mtgpt")
    assert not is_ours("last value")


def test_a_band_between_two_levels_is_interpolated_and_one_outside_all_levels_is_not_drawn(tmp_path, panel):
    forecast = a_forecast(panel)
    some = replace(forecast, levels=(0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9))
    page = written(tmp_path, panel, forecasts=[some])
    assert "50% of outcomes expected inside" in page
    assert "80% of outcomes expected inside" in page
    assert "95% of outcomes" not in page
