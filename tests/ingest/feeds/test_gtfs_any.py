"""Whatever stands in the files of a GTFS zip: it is read, or refused in a sentence; never a traceback, never a lost row."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtgpt.errors import FeedError, SourceRefused
from tests.ingest.gtfs_files import BASE, gtfs, judged

CELLS = st.sampled_from(
    ["", " ", "0", "1", "-1", "s1", "t1", "R1", "WK", "x", '"', '""', "nan", "inf", "1e400", "99999999999999999999", "4", "7",
     "08:00:00", "99:99:99", "20240304", "20241301", "00000000", "99991231", "\u202e", "é", "\ufffd", "\x00", "a\nb", "{}", ","]
)  # fmt: skip
EXTRA = {
    "frequencies.txt": "trip_id,start_time,end_time,headway_secs\nt1,06:00:00,07:00:00,600\n",
    "calendar_dates.txt": "service_id,date,exception_type\nWK,20240305,2\n",
    "transfers.txt": "from_stop_id,to_stop_id,transfer_type\ns1,s2,0\n",
    "pathways.txt": "from_stop_id,to_stop_id,is_bidirectional,length\ns1,s2,1,3\n",
    "shapes.txt": "shape_id,shape_pt_lat,shape_pt_lon,shape_pt_sequence,shape_dist_traveled\nx,1,1,1,0\nx,1.01,1,2,1\n",
}
ALL = dict(BASE) | EXTRA


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_odd_cells_anywhere_cost_rows_and_no_more(tmp_path, data):
    files = dict(ALL)
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from(sorted(files)))
        lines = [line.split(",") for line in files[name].split("\n")]
        row = data.draw(st.integers(1, len(lines) - 1))
        lines[row][data.draw(st.integers(0, len(lines[row]) - 1))] = data.draw(CELLS)
        files[name] = "\n".join(",".join(line) for line in lines)
    path = gtfs(tmp_path, **{name.removesuffix(".txt"): text for name, text in files.items()})
    with suppress(FeedError, SourceRefused):
        judged(path, bbox=data.draw(st.sampled_from([None, [-75, 40.69, -73, 40.715]])))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_files_cut_off_or_changed_anywhere_are_read_or_refused(tmp_path, data):
    files = {name: text.encode() for name, text in ALL.items()}
    name = data.draw(st.sampled_from(sorted(files)))
    at = data.draw(st.integers(0, len(files[name])))
    cut = data.draw(st.sampled_from(["cut", "insert"]))
    files[name] = files[name][:at] + (b"" if cut == "cut" else data.draw(st.binary(max_size=6)) + files[name][at:])
    path = gtfs(tmp_path, **{name.removesuffix(".txt"): content for name, content in files.items()})
    with suppress(FeedError, SourceRefused):
        judged(path)
