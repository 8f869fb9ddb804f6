from __future__ import annotations

import gzip
import json
import pickle
from datetime import UTC, datetime, timedelta

import h5py
import numpy as np
import polars as pl
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.feeds.matrix.adapter import MatrixOptions
from tests.ingest.feed_files import judged, read

ROAD = {"variable": "speed", "mode": "road", "kind": "detector", "interval_s": 300}


def wide(frame: pl.DataFrame, variable: str = "speed") -> np.ndarray:
    part = frame.filter(pl.col("variable") == variable).sort("time_start", maintain_order=True)
    return part.pivot("spot_id", index="time_start", values="value").drop("time_start").to_numpy()


def npz(folder, values, **more):
    path = folder / "grid.npz"
    np.savez(path, data=values, **more)
    return path


def test_an_npz_of_time_by_sensor_becomes_good_rows_in_local_days(tmp_path):
    values = np.arange(24, dtype=float).reshape(8, 3)
    frames = read("matrix", npz(tmp_path, values), zone="America/Los_Angeles", start="2012-05-01", **ROAD)
    verdict = judged("observation", frames["observation"])
    assert verdict.bad.height == 0
    assert wide(verdict.good).tolist() == values.tolist()
    assert verdict.good["time_start"].min() == datetime(2012, 5, 1, 7, tzinfo=UTC)
    assert judged("spot", frames["spot"]).good["spot_id"].to_list() == ["0", "1", "2"]


def test_miles_per_hour_become_kilometres_per_hour(tmp_path):
    frames = read("matrix", npz(tmp_path, np.full((2, 1), 60.0)), start="2012-05-01", unit="mph", **ROAD)
    assert frames["observation"]["value"].to_list() == pytest.approx([96.56064] * 2)


def test_channels_of_the_pems_sets_become_variables_and_counts_become_rates(tmp_path):
    values = np.stack([np.full((4, 2), 30.0), np.full((4, 2), 5.0), np.full((4, 2), 60.0)], axis=-1)
    options = ROAD | {
        "variable": ["flow", "occupancy", "speed"],
        "unit": {"flow": "veh/interval", "occupancy": "%", "speed": "mph"},
    }
    good = judged(
        "observation", read("matrix", npz(tmp_path, values), start="2016-07-01", **options)["observation"]
    ).good
    means = dict(good.group_by("variable").agg(pl.col("value").mean()).iter_rows())
    assert means == pytest.approx({"flow": 360.0, "occupancy": 0.05, "speed": 96.56064}, rel=1e-6)


def test_a_channel_may_be_left_out(tmp_path):
    values = np.zeros((4, 2, 3))
    options = ROAD | {"variable": [None, None, "speed"]}
    assert read("matrix", npz(tmp_path, values), start="2016-07-01", **options)["observation"].height == 8


def test_weekdays_jump_over_the_weekend_and_service_hours_over_the_night(tmp_path):
    options = ROAD | {"interval_s": 3600, "days": "weekdays", "hours": ["05:00", "07:00"], "start": "2016-03-04"}
    frame = read("matrix", npz(tmp_path, np.ones((4, 1))), zone="Asia/Shanghai", **options)["observation"]
    local = frame["time_start"].dt.convert_time_zone("Asia/Shanghai").dt.strftime("%a %d %H:%M").to_list()
    assert local == ["Fri 04 05:00", "Fri 04 06:00", "Mon 07 05:00", "Mon 07 06:00"]


def test_a_first_day_may_begin_in_the_middle(tmp_path):
    options = ROAD | {"interval_s": 3600, "start": "2014-08-08T22:00"}
    frame = read("matrix", npz(tmp_path, np.ones((3, 1))), **options)["observation"]
    assert frame["time_start"].dt.strftime("%d %H").to_list() == ["08 22", "08 23", "09 00"]


def test_more_steps_than_the_dates_allow_are_refused_with_both_numbers(tmp_path):
    with pytest.raises(FeedError, match=r"got 300 steps.*expected 288 steps"):
        read("matrix", npz(tmp_path, np.ones((300, 1))), start="2012-05-01", end="2012-05-01", **ROAD)


def test_steps_in_the_skipped_hour_are_marked_and_nothing_else(tmp_path):
    values = np.ones((288, 2))
    frames = read("matrix", npz(tmp_path, values), zone="America/Los_Angeles", start="2012-03-11", **ROAD)
    verdict = judged("observation", frames["observation"])
    assert verdict.bad["rule_id"].unique().to_list() == ["time_does_not_exist"]
    assert verdict.bad.height == 2 * 12
    assert json.loads(verdict.bad["raw"][0]) == {"spot_id": "0", "value": 1.0, "time": "2012-03-11 02:00:00.000000"}
    gaps = verdict.good.filter(pl.col("spot_id") == "0")["time_start"].diff().drop_nulls().unique()
    assert gaps.to_list() == [timedelta(minutes=5)]


def test_missing_markers_and_nan_have_no_row_and_infinity_is_quarantined(tmp_path):
    values = np.array([[0.0, 50.0, np.nan], [51.0, np.inf, 52.0]])
    verdict = judged(
        "observation", read("matrix", npz(tmp_path, values), start="2012-03-01", missing=[0.0], **ROAD)["observation"]
    )
    assert verdict.good["value"].to_list() == [50.0, 51.0, 52.0]
    assert verdict.bad["rule_id"].to_list() == ["number_not_finite"]


def test_zero_is_a_measurement_unless_said_otherwise(tmp_path):
    assert read("matrix", npz(tmp_path, np.zeros((2, 2))), start="2012-03-01", **ROAD)["observation"].height == 4


def test_pandas_hdf_of_metr_la_is_read_without_pandas(tmp_path):
    path = tmp_path / "metr-la.h5"
    index = np.datetime64("2012-03-01T00:00", "ns") + np.arange(3) * np.timedelta64(5, "m")
    with h5py.File(path, "w") as store:
        group = store.create_group("df")
        group["axis0"] = np.array([b"773869", b"767541"])
        group["axis1"] = index.astype("int64")
        group["block0_items"] = np.array([b"773869", b"767541"])
        group["block0_values"] = np.array([[64.4, 0.0], [62.7, 61.0], [0.0, 60.0]])
    frames = read("matrix", path, zone="America/Los_Angeles", missing=[0.0], unit="mph", **ROAD)
    good = judged("observation", frames["observation"]).good
    assert good.select("spot_id", pl.col("time_start").dt.strftime("%H:%M")).rows() == [
        ("773869", "08:00"), ("773869", "08:05"), ("767541", "08:05"), ("767541", "08:10"),
    ]  # fmt: skip


def test_an_h5_that_points_to_another_file_is_refused(tmp_path):
    path = tmp_path / "link.h5"
    with h5py.File(path, "w") as store:
        store["data"] = h5py.ExternalLink("/etc/hostname", "/")
    with pytest.raises(FeedError, match="points to another file"):
        read("matrix", path, start="2012-03-01", key="data", **ROAD)


def test_an_h5_with_its_numbers_in_another_file_is_refused(tmp_path):
    (tmp_path / "raw.bin").write_bytes(bytes(64))
    path = tmp_path / "external.h5"
    with h5py.File(path, "w") as store:
        store.create_dataset("data", (4, 2), dtype="f8", external=[(str(tmp_path / "raw.bin"), 0, 64)])
    with pytest.raises(FeedError, match="keeps its numbers in another file"):
        read("matrix", path, start="2012-03-01", **ROAD)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_python_objects_are_never_unpickled(tmp_path, suffix):
    path = tmp_path / f"grid.{suffix}"
    objects = np.array([[{"a": 1}]], dtype=object)
    np.save(path, objects, allow_pickle=True) if suffix == "npy" else np.savez(path, data=objects)
    with pytest.raises(FeedError, match="holds Python objects, which are never loaded"):
        read("matrix", path, start="2012-03-01", **ROAD)


def test_a_bare_pickle_is_no_npy(tmp_path):
    path = tmp_path / "grid.npy"
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(FeedError):
        read("matrix", path, start="2012-03-01", **ROAD)


def test_a_truncated_npz_is_refused(tmp_path):
    path = npz(tmp_path, np.random.default_rng(0).random((100, 10)))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(FeedError, match="damaged zip"):
        read("matrix", path, start="2012-03-01", **ROAD)


def test_an_npz_that_expands_too_far_is_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, data=np.zeros((20_000, 300)))
    with pytest.raises(SourceRefused, match="expands too far"):
        read("matrix", path, start="2012-03-01", **ROAD)


def test_several_arrays_need_a_key_and_the_error_lists_them(tmp_path):
    path = tmp_path / "many.npz"
    np.savez(path, x=np.ones((2, 2)), y=np.ones((2, 2)))
    with pytest.raises(FeedError, match=r"several arrays.*expected x, y"):
        read("matrix", path, start="2012-03-01", **ROAD)
    assert read("matrix", path, start="2012-03-01", key="y", **ROAD)["observation"].height == 4


def test_windows_give_their_first_step(tmp_path):
    values = np.arange(5 * 3 * 2 * 1, dtype=float).reshape(5, 3, 2, 1)
    frame = read("matrix", npz(tmp_path, values), start="2012-03-01", windows=True, **ROAD)["observation"]
    assert wide(frame).tolist() == values[:, 0, :, 0].tolist()


def csv_file(folder, text: str, name: str = "speed.csv"):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["speed.csv", "speed.csv.gz"])
def test_a_csv_names_its_sensors_in_the_header_and_its_times_in_a_column(tmp_path, name):
    text = "time,a,b\n2024-01-01 00:00:00,1.5,2\n2024-01-01 00:05:00,,3\n"
    frames = read("matrix", csv_file(tmp_path, text, name), zone="Europe/Vienna", time="time", **ROAD)
    assert frames["observation"].select("spot_id", pl.col("time_start").dt.strftime("%d %H:%M"), "value").rows() == [
        ("a", "31 23:00", 1.5), ("b", "31 23:00", 2.0), ("b", "31 23:05", 3.0),
    ]  # fmt: skip


def test_a_transposed_csv_without_header_has_a_line_per_station(tmp_path):
    options = ROAD | {"variable": "entries", "mode": "metro", "kind": "station", "header": False, "transpose": True}
    frame = read("matrix", csv_file(tmp_path, "1,2,3\n4,5,6\n"), start="2016-02-29", **options)["observation"]
    assert wide(frame, "entries").tolist() == [[1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize("transpose", [False, True])
def test_a_cell_that_is_no_number_costs_one_row(tmp_path, transpose):
    text = "1,2\nx,4\n5,NA\n"
    frames = read("matrix", csv_file(tmp_path, text), start="2016-02-29", header=False, transpose=transpose, **ROAD)
    verdict = judged("observation", frames["observation"])
    assert sorted(verdict.good["value"]) == [1, 2, 4, 5]
    assert verdict.bad["rule_id"].to_list() == ["number_unreadable"]
    raw = json.loads(verdict.bad["raw"][0])
    assert (raw["value"], raw["spot_id"]) == ("x", "1" if transpose else "0")


def test_a_time_that_cannot_be_read_is_marked_and_shown(tmp_path):
    text = "time,a\n2024-01-01 00:00:00,1\nyesterday,2\n"
    verdict = judged("observation", read("matrix", csv_file(tmp_path, text), time="time", **ROAD)["observation"])
    assert verdict.good.height == 1
    assert verdict.bad["rule_id"].to_list() == ["time_unreadable"]
    assert json.loads(verdict.bad["raw"][0])["time"] == "yesterday"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("a,b\n", "the file has no steps"),
        ("a,b\n1,2\n3", "line 3 is not as long as the first .got 1 cells, expected 2 cells"),
        ("a,b\n1,2\n3\n4,5\n", "line 3 is not as long as the first"),
        ("a,b\n1,2,3\n4,5\n", "line 2 is not as long as the first"),
        ("a,a\n1,2\n", "a place stands twice"),
    ],
)
def test_csv_files_that_are_no_grid_are_refused_with_one_sentence(tmp_path, text, message):
    with pytest.raises(FeedError, match=message):
        read("matrix", csv_file(tmp_path, text), start="2024-01-01", **ROAD)


def test_a_truncated_gzip_is_refused(tmp_path):
    path = csv_file(tmp_path, "a,b\n" + "1.25,2.5\n" * 10_000, "speed.csv.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FeedError, match="the gzip file is truncated"):
        read("matrix", path, start="2024-01-01", **ROAD)


def test_a_matrix_wider_than_its_list_of_sensors_names_both_numbers(tmp_path):
    ids = csv_file(tmp_path, "7,8\n", "ids.txt")
    with pytest.raises(FeedError, match=r"got 3 columns, expected 2 ids"):
        read("matrix", npz(tmp_path, np.ones((2, 3))), files={"ids": ids}, start="2024-01-01", **ROAD)


def test_channels_and_variables_must_agree(tmp_path):
    with pytest.raises(FeedError, match=r"got 3 channels, expected 1 variables"):
        read("matrix", npz(tmp_path, np.ones((2, 2, 3))), start="2024-01-01", **ROAD)


def test_a_grid_without_times_asks_for_a_start(tmp_path):
    with pytest.raises(FeedError, match="Set the option start"):
        read("matrix", npz(tmp_path, np.ones((2, 2))), **ROAD)


def test_an_unknown_unit_lists_those_that_would_do(tmp_path):
    with pytest.raises(FeedError, match=r"got furlong/h, expected km/h, mph, m/s, knot"):
        read("matrix", npz(tmp_path, np.ones((2, 2))), start="2024-01-01", unit="furlong/h", **ROAD)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hours": ["05:00", "05:02"]},
        {"start": "2024-01-01", "time": "t"},
        {"start": "2024-01-01T00:00Z"},
        {"mod": "road"},
    ],
)
def test_options_that_contradict_themselves_are_refused(wrong):
    with pytest.raises(ValidationError):
        MatrixOptions.model_validate_json(json.dumps(ROAD | wrong))


ADJACENCY = np.array([[1.0, 0.5, 0.0], [0.2, 1.0, 0.9], [0.0, 0.0, 1.0]])
EDGES = {("0", "1", 0.5), ("1", "0", 0.2), ("1", "2", 0.9)}


def adjacency_file(folder, form: str):
    path = (
        folder
        / {
            "npy": "a.npy",
            "dense npz": "a.npz",
            "sparse npz": "a.npz",
            "csv": "a.csv",
            "list": "a.csv",
            "named list": "a.csv",
            "labelled": "a.csv",
        }[form]
    )
    match form:
        case "npy":
            np.save(path, ADJACENCY)
        case "dense npz":
            np.savez(path, adj_mx=ADJACENCY)
        case "sparse npz":
            scipy.sparse.save_npz(path, scipy.sparse.csr_matrix(ADJACENCY))
        case "csv":
            np.savetxt(path, ADJACENCY, delimiter=",")
        case "list":
            path.write_text("".join(f"{a},{b},{weight}\n" for a, b, weight in sorted(EDGES)) + "0,99,1\n")
        case "named list":
            path.write_text("from,to,cost\n" + "".join(f"{a},{b},{weight}\n" for a, b, weight in sorted(EDGES)))
        case "labelled":
            rows = [f"{at}," + ",".join(str(ADJACENCY[at, to]) for to in (2, 0, 1)) for at in (1, 0, 2)]
            path.write_text(",2,0,1\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("form", ["npy", "dense npz", "sparse npz", "csv", "labelled", "list", "named list"])
def test_every_published_form_of_an_adjacency_gives_the_same_links(tmp_path, form):
    values = tmp_path / "values.csv"
    values.write_text("0,1,2\n1,2,3\n")
    if form in {"list", "named list"}:  # a 3 × 3 table is a matrix, so the lists need a fourth place
        values.write_text("0,1,2,3\n1,2,3,4\n")
    frames = read("matrix", values, files={"adjacency": adjacency_file(tmp_path, form)}, start="2024-01-01", **ROAD)
    good = judged("link", frames["link"]).good
    assert set(good.select("from_spot", "to_spot", "weight").rows()) == EDGES
    assert good["kind"].unique().to_list() == ["road"]


def test_only_the_heaviest_links_are_kept_on_request(tmp_path):
    files = {"adjacency": adjacency_file(tmp_path, "npy")}
    frames = read(
        "matrix", npz(tmp_path, np.ones((2, 3))), files=files, start="2024-01-01", most_links=1, min_weight=0.3, **ROAD
    )
    assert set(frames["link"].select("from_spot", "to_spot").rows()) == {("0", "1"), ("1", "2")}


def test_distances_give_lengths_to_weighted_links_and_nearest_links_of_their_own(tmp_path):
    kilometres = np.array([[0, 1.0, 5], [1, 0, 2], [5, 2, 0]])
    np.save(tmp_path / "d.npy", kilometres)
    files = {"adjacency": adjacency_file(tmp_path, "npy"), "distances": tmp_path / "d.npy"}
    options = ROAD | {"start": "2024-01-01", "distance_unit": "km"}
    path = npz(tmp_path, np.ones((2, 3)))
    weighted = read("matrix", path, files=files, **options)["link"]
    assert set(weighted.select("from_spot", "to_spot", "distance_m").rows()) == {
        ("0", "1", 1000.0),
        ("1", "0", 1000.0),
        ("1", "2", 2000.0),
    }
    nearest = read("matrix", path, files={"distances": files["distances"]}, nearest=1, **options)["link"]
    assert nearest.select("from_spot", "to_spot", "kind").rows() == [
        ("0", "1", "proximity"),
        ("1", "0", "proximity"),
        ("2", "1", "proximity"),
    ]


def test_a_matrix_of_another_size_names_both_sizes(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((4, 4)))
    with pytest.raises(FeedError, match=r"got 4 × 4, expected 3 × 3"):
        read(
            "matrix",
            npz(tmp_path, np.ones((2, 3))),
            files={"adjacency": tmp_path / "a.npy"},
            start="2024-01-01",
            **ROAD,
        )


def test_a_sparse_matrix_that_claims_a_huge_shape_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(
        path,
        data=np.ones(1),
        indices=np.zeros(1, "i4"),
        indptr=np.array([0, 1], "i4"),
        shape=np.array([10**7, 10**7]),
        format=b"csr",
    )
    with pytest.raises(FeedError, match="does not fit the places"):
        read("matrix", npz(tmp_path, np.ones((2, 3))), files={"adjacency": path}, start="2024-01-01", **ROAD)


@pytest.mark.parametrize(
    "text", ["index,sensor_id,latitude,longitude\n0,b,48.2,16.3\n1,a,48.1,16.4\n", "b,48.2,16.3\na,48.1,16.4\n"]
)
def test_locations_find_their_sensors_by_id_with_or_without_a_header(tmp_path, text):
    files = {"locations": csv_file(tmp_path, text, "places.csv")}
    frames = read("matrix", csv_file(tmp_path, "a,b\n1,2\n"), files=files, start="2024-01-01", **ROAD)
    assert judged("spot", frames["spot"]).good.select("spot_id", "lat", "lon").rows() == [
        ("a", 48.1, 16.4),
        ("b", 48.2, 16.3),
    ]


def attributes_of(folder, places: str) -> dict[str, dict[str, str] | None]:
    frames = read(
        "matrix",
        csv_file(folder, "a,b\n1,2\n"),
        files={"locations": csv_file(folder, places, "places.csv")},
        start="2024-01-01",
        **ROAD,
    )
    good = judged("spot", frames["spot"]).good
    return {
        one: None if text is None else json.loads(text) for one, text in good.select("spot_id", "attributes").rows()
    }


def test_what_else_the_locations_say_becomes_attributes_and_empty_cells_do_not(tmp_path):
    text = "id,Road Name,lat,lon,lanes,name\na,Ring Road,48.1,16.4,3,first\nb,,48.2,16.3, ,second\n"
    assert attributes_of(tmp_path, text) == {"a": {"road_name": "Ring Road", "lanes": "3"}, "b": None}


def test_two_columns_of_one_name_both_keep_their_text(tmp_path):
    text = "id,lat,lon,road,road\na,48.1,16.4,one,two\n"
    assert attributes_of(tmp_path, text)["a"] == {"road": "one", "road_5": "two"}


def test_attributes_are_bounded_in_number_and_length_and_still_pass_the_contract(tmp_path):
    header = ",".join(f"{'k' * 90}{at}" if at == 0 else f"c{at}" for at in range(200))
    cell = "\\" * 5000
    text = f"id,lat,lon,{header}\na,48.1,16.4,{','.join([cell] * 200)}\n"
    found = attributes_of(tmp_path, text)["a"]
    assert found is not None
    assert len(found) == 20
    assert max(map(len, found)) == 64
    assert {len(value) for value in found.values()} == {400}


def node_link(folder, **change):
    nodes = [{"stop": at, "x": 589196 + at, "y": 6151987, "n": [at, 0, 2]} for at in range(3)]
    document = {"nodes": nodes, "links": [{"source": 0, "target": 1, "weight": 172.2}]} | change
    path = folder / "bus.json"
    path.write_text(json.dumps(document))
    return path


NODES = {"id": "stop", "values": "n", "lon": "x", "lat": "y", "links": "links"}
BUS = {
    "variable": "boardings",
    "mode": "bus",
    "kind": "stop",
    "interval_s": 3600,
    "start": "2020-10-01",
    "nodes": NODES,
}


def test_node_link_json_gives_places_in_degrees_links_in_metres_and_counts(tmp_path):
    frames = read("matrix", node_link(tmp_path), crs="EPSG:32721", **BUS)
    spot = judged("spot", frames["spot"]).good
    assert (spot["lon"][0], spot["lat"][0]) == pytest.approx((-56.0253, -34.7694), abs=1e-3)
    assert frames["link"].select("from_spot", "to_spot", "distance_m", "kind").rows() == [("0", "1", 172.2, "transit")]
    assert wide(frames["observation"], "boardings").tolist() == [[0, 1, 2], [0, 0, 0], [2, 2, 2]]


def test_a_node_link_json_of_another_shape_says_which_key_is_missing(tmp_path):
    with pytest.raises(FeedError, match="KeyError: 'edges'"):
        read("matrix", node_link(tmp_path), **BUS | {"nodes": NODES | {"links": "edges"}})


def test_series_of_different_length_are_refused(tmp_path):
    nodes = [{"stop": 0, "x": 1, "y": 1, "n": [1, 2]}, {"stop": 1, "x": 1, "y": 1, "n": [1]}]
    with pytest.raises(FeedError, match="series of different length"):
        read("matrix", node_link(tmp_path, nodes=nodes), **BUS)


def test_spots_can_be_left_to_another_source(tmp_path):
    frames = read("matrix", npz(tmp_path, np.ones((2, 2))), start="2024-01-01", spots=False, **ROAD)
    assert set(frames) == {"observation"}


@given(
    values=st.lists(st.lists(st.floats(0, 120, width=32), min_size=3, max_size=3), min_size=1, max_size=40),
    holes=st.sets(st.tuples(st.integers(0, 39), st.integers(0, 2))),
)
def test_what_goes_in_comes_out(tmp_path_factory, values, holes):
    grid = np.array(values, dtype=np.float32)
    for step, place in holes:
        if step < len(grid):
            grid[step, place] = np.nan
    path = tmp_path_factory.mktemp("grid") / "grid.npy"
    np.save(path, grid)
    frame = read("matrix", path, start="2024-01-01", **ROAD).get("observation")
    rebuilt = np.full_like(grid, np.nan)
    if frame is not None:
        steps = ((frame["time_start"] - datetime(2024, 1, 1, tzinfo=UTC)).dt.total_seconds() // 300).to_numpy()
        assert (frame["__row"].to_numpy() == steps).all()
        rebuilt[steps, frame["spot_id"].cast(pl.Int64).to_numpy()] = frame["value"].to_numpy()
    np.testing.assert_array_equal(rebuilt, grid)
