"""DATEX II with anything where a number, a time, a place or a name should be: refused whole or accounted for."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtgpt.errors import FeedError, SourceRefused
from tests.ingest.datex2_feeds import characteristics, container, flow, measurements, quantity, site, sites, speed
from tests.ingest.feed_files import judged, read
from tests.ingest.feeds.test_datex2_situations import HERE, LINE, OPENLR, TPEG, VALIDITY, comment, record, situation

SITE = site(
    "A2",
    characteristics(1, "trafficFlow", lane="lane1"),
    characteristics(2, "trafficSpeed", lane="lane2", vehicles="5.6"),
)
WHOLE = container(
    ("roa:MeasurementSiteTablePublication", sites(SITE)),
    (
        "roa:MeasuredDataPublication",
        measurements(
            "A2",
            quantity(1, flow(1, 'numberOfIncompleteInputs="3" numberOfInputValuesUsed="2"')),
            quantity(2, speed(3)),
        ),
    ),
    (
        "sit:SituationPublication",
        situation(
            record("Accident", VALIDITY + comment(("nl", "x")) + HERE.replace("</sit:", TPEG + "</sit:")),
            record("X", f"<sit:locationReference>{LINE.format('52 5 53 6')}{OPENLR}</sit:locationReference>"),
            severity="high",
        ),
    ),
)
VALUES = [match.span() for match in re.finditer(r'(?<=>)[^<>]+(?=<)|(?<==")[^"]*(?=")', WHOLE)]
TAGS = [match.end() for match in re.finditer(r"</?[a-z0-9]+:[A-Za-z]+", WHOLE)]
ODD = st.sampled_from(
    ["", "-1", "1e999", "nan", "inf", "9" * 400, "٣", "2026-13-01", "0001-01-01T00:00:00+14:00", "true", "x" * 300, "1_0"]
) | st.text(st.characters(codec="utf-8", exclude_characters='<>&"\0', exclude_categories=("Cc",)), max_size=12)  # fmt: skip
CHANGES = st.lists(
    st.tuples(st.sampled_from(VALUES), ODD) | st.sampled_from(TAGS).map(lambda at: ((at, at), "q")),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CHANGES, st.sampled_from(["any", "all"]))
def test_any_document_is_refused_or_every_row_is_accounted_for(changes, vehicles):
    text = WHOLE
    for (start, end), odd in sorted(changes, reverse=True):
        text = text[:start] + odd + text[end:]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "any.xml"
        path.write_text(text, encoding="utf-8")
        try:
            frames = read("datex2", path, zone="Europe/Amsterdam", vehicles=vehicles)
        except (FeedError, SourceRefused):
            return
    for table, frame in frames.items():
        judged(table, frame)
