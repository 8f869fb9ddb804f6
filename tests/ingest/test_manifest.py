"""Manifests: what is read, and how every fault of a person's file is named."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from mtgpt.errors import ManifestError, NotFound
from mtgpt.ingest.adapter import Chunk, Roles
from mtgpt.ingest.faults import ManifestFaults
from mtgpt.ingest.manifest import CityManifest, Source, list_manifests, load_manifest, source_options
from mtgpt.ingest.pull.locate import locate
from mtgpt.ingest.schema import manifest_schema
from mtgpt.ingest.yaml_document import YamlFault, parse_yaml
from mtgpt.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


class GridOptions(BaseModel, extra="forbid"):
    variable: str
    unit: str = "km/h"
    columns: tuple[int, ...] = ()
    sheet: int = Field(default=1, ge=1)


class Grid:
    kind = "grid"
    version = 1
    roles = Roles(optional=frozenset({"adjacency", "distances"}))
    Options = GridOptions

    def read(self, files, options, context) -> Iterator[Chunk]:
        return iter(())


class Paired(Grid):
    kind = "paired"
    roles = Roles(required=frozenset({"data", "stations"}))


ADAPTERS = {"grid": Grid(), "paired": Paired()}

GOOD = """\
# yaml-language-server: $schema=city.schema.json
city: oslo
name: Oslo
time_zone: Europe/Oslo
country: NO
sources:
  - id: loops
    kind: grid
    path: data/*.npz
    files: {adjacency: adjacency.csv}
    options: {variable: speed, columns: [1, 2]}
    schedule: "*/5 6-22 * * MON-FRI"
  - id: docks
    kind: paired
    url: https://feeds.example/docks.csv?key=${ENV:OSLO_KEY}
    headers: {Authorization: "Bearer ${ENV:OSLO_TOKEN}"}
    files: {stations: https://feeds.example/stations.csv}
    options:
      variable: flow
panel:
  interval_s: 900
  hours: [06:00, 23:00]
  start: 2024-03-01
  variables: [speed, flow]
"""


def loaded(folder, text: str, name: str = "oslo.yaml") -> CityManifest:
    (folder / name).write_text(text, encoding="utf-8")
    return load_manifest(folder / name, settings=Settings(), adapters=ADAPTERS)


def faults_of(folder, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ManifestFaults) as caught:
        loaded(folder, text)
    assert caught.value.exit_code == 2
    assert all(str(folder / "oslo.yaml:") in line for line in caught.value.sentence().splitlines())
    return [(fault.line, fault.key, fault.what) for fault in caught.value.faults]


def test_a_manifest_is_read_by_the_rules_of_yaml_1_2(tmp_path):
    manifest = loaded(tmp_path, GOOD)
    assert manifest.country == "NO"
    assert manifest.panel.hours == ("06:00", "23:00")
    assert manifest.panel.window_minutes == (360, 1380)
    assert str(manifest.panel.start) == "2024-03-01"
    assert manifest.source("loops").location == "data/*.npz"
    assert source_options(manifest.source("loops"), ADAPTERS["grid"]) == GridOptions(variable="speed", columns=(1, 2))
    with pytest.raises(NotFound, match="loops, docks"):
        manifest.source("buses")


def test_every_fault_is_named_with_its_line_and_key_in_one_go(tmp_path):
    text = """\
city: oslo
naem: Oslo
name: 7
time_zone: Europe/Olso
sources:
  - id: Loops
    kind: grid
    path: a.npz
  - kind: grid
    url: ftp://feeds.example/a
panel:
  interval_s: "900"
  neighbors: 3
"""
    assert faults_of(tmp_path, text) == [
        (2, "naem", "unknown key"),
        (3, "name", "wrong value"),
        (4, "time_zone", "wrong value"),
        (6, "sources[0].id", "wrong value"),
        (9, "sources[1].id", "missing"),
        (10, "sources[1].url", "scheme not allowed"),
        (12, "panel.interval_s", "wrong value"),
        (13, "panel.neighbors", "unknown key"),
    ]


def test_an_error_says_file_line_key_got_and_expected(tmp_path):
    with pytest.raises(ManifestError) as caught:
        loaded(tmp_path, GOOD.replace("interval_s: 900", 'interval_s: "900"'))
    assert caught.value.sentence() == (
        f'{tmp_path}/oslo.yaml:21: panel.interval_s: wrong value (got "900", expected a valid integer).'
    )
    assert caught.value.as_dict()["faults"] == [
        {"line": 21, "key": "panel.interval_s", "error": "ManifestError", "what": "wrong value", "got": '"900"', "expected": "a valid integer"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: Oslo", "nmae: Oslo", "got nmae, expected name"),
        ("    kind: grid", "    kind: gird", "unknown kind (got gird, expected grid)"),
        ("options: {variable", "option: {variable", "got option, expected options"),
        ("columns: [1, 2]", "colums: [1, 2]", "options.colums: unknown key (got colums, expected columns)"),
        ("columns: [1, 2]", "columns: [1, two]", "options.columns[1]: wrong value"),
        ("{adjacency:", "{adjacent:", "grid has no such role (got adjacent, expected adjacency)"),
        ("stations:", "staitons:", "paired needs further files (expected stations)"),
        ("Europe/Oslo", "Europe/Olso", "expected Europe/Oslo"),
        ("country: NO", "country: QQ", "no public holidays are known (got QQ"),
        ("country: NO", "country: US\nsubdivision: QQ", "unknown subdivision (got QQ, expected AK, AL"),
        ("country: NO", "subdivision: CA", "a subdivision without its country"),
        ("variables: [speed, flow]", "variables: [speeds]", "unknown variable (got speeds, expected speed)"),
        ("interval_s: 900", "interval_s: 700", "that divide the day"),
        ("[06:00, 23:00]", "[06:00, 23:05]", "hours that hold whole steps"),
        ("[06:00, 23:00]", "[23:00, 06:00]", "the first before the second"),
        ("2024-03-01", "2024-02-30", "day value is outside expected range"),
        ("start: 2024-03-01", "start: 2024-03-01\n  end: 2024-02-01", "start not after end"),
        ("id: docks", "id: loops", "ids that stand once; twice: loops"),
        ("path: data/*.npz", "path: data/*.npz\n    url: http://x.example/", "exactly one of path and url"),
        ("path: data/*.npz", "path: http://x.example/", "an address goes under url"),
        ("path: data/*.npz", "path: ${HOME}/a", "at the start: MTGPT_REAL_DATA, MTGPT_HOME, MTGPT_CITIES"),
        ("{adjacency: adjacency.csv}", "{data: a.csv}", "another role than data"),
        ('"*/5 6-22 * * MON-FRI"', "hourly", "five cron fields"),
        ("sources:", "sources: []\nthings:", "unknown key (got things"),
    ],
)  # fmt: skip
def test_a_slip_is_met_with_what_was_meant(tmp_path, old, new, expected):
    assert old in GOOD
    with pytest.raises(ManifestError) as caught:
        loaded(tmp_path, GOOD.replace(old, new, 1))
    assert expected in caught.value.sentence()


@pytest.mark.parametrize(
    "header",
    ["Authorization: hunter2", 'Authorization: "${ENV:A} hunter2"', 'Host: "${ENV:A}"', 'hunter2 x: "${ENV:A}"'],
)
def test_a_secret_written_into_a_manifest_is_refused_and_not_repeated(tmp_path, header):
    with pytest.raises(ManifestError) as caught:
        loaded(tmp_path, GOOD.replace('Authorization: "Bearer ${ENV:OSLO_TOKEN}"', header))
    assert "hunter2" not in caught.value.sentence() + str(caught.value.as_dict())
    assert "sources[1].headers" in caught.value.sentence()


def test_a_refused_url_is_shown_without_user_and_query(tmp_path):
    with pytest.raises(ManifestError) as caught:
        loaded(
            tmp_path,
            GOOD.replace(
                "https://feeds.example/docks.csv?key=${ENV:OSLO_KEY}", "http://me:hunter2@x.example/?k=hunter3"
            ),
        )
    assert "http://x.example/?…" in caught.value.sentence()
    assert "hunter" not in caught.value.sentence()


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "the file is empty"),
        ("# only a comment\n", 1, "the file is empty"),
        ("- a\n- b\n", 1, "not a mapping"),
        ("city: a\n  name: b\n", 2, "not YAML: mapping values are not allowed here"),
        ("city: a\nname: [b\n", 3, "not YAML: expected ',' or ']', but got '<stream end>'"),
        ("city: a\nname: b\ncity: c\n", 3, "the key stands twice"),
        ("city: a\n---\ncity: b\n", 2, "not YAML: but found another document"),
        ("city: !!python/object/apply:os.system [id]\n", 1, "not YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("city: &a [*a]\n", 1, "too many values, or aliases that repeat each other"),
        ("a: " + "[" * 3000 + "\n", 1, "not YAML: nested too deeply"),
        ("a: " + "[" * 100 + "]" * 100, 1, "too many values, or aliases that repeat each other"),
    ],
)  # fmt: skip
def test_text_that_is_no_manifest_is_said_with_its_line(tmp_path, text, line, what):
    assert (line, what) in [(found[0], found[2]) for found in faults_of(tmp_path, text)]


def test_aliases_that_multiply_are_refused_before_they_do(tmp_path):
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 12))
    assert faults_of(tmp_path, f"l0: &l0 [x]\n{levels}\n")[0][2].startswith("too many values")


def test_bytes_that_are_no_utf_8_are_said_with_their_line(tmp_path):
    (tmp_path / "oslo.yaml").write_bytes(b"city: oslo\nname: Troms\xf8\n")
    with pytest.raises(ManifestError, match=r"oslo\.yaml:2: not UTF-8 \(got 0xf8\)"):
        load_manifest(tmp_path / "oslo.yaml", settings=Settings(), adapters=ADAPTERS)


def test_a_city_is_found_by_name_and_a_typo_meets_the_list(tmp_path):
    settings = Settings(cities=tmp_path)
    with pytest.raises(NotFound, match="the folder has none"):
        load_manifest("oslo", settings=settings, adapters=ADAPTERS)
    (tmp_path / "oslo.yaml").write_text(GOOD)
    (tmp_path / "bergen.yml").write_text(GOOD)
    assert load_manifest("oslo", settings=settings, adapters=ADAPTERS).file == tmp_path / "oslo.yaml"
    with pytest.raises(NotFound) as caught:
        load_manifest("olso", settings=settings, adapters=ADAPTERS)
    assert caught.value.expected == "bergen, oslo"
    assert caught.value.next_step == "perhaps oslo is meant"
    with pytest.raises(ManifestError, match=r"bergen\.yml:2: city: differs from the file's name"):
        load_manifest("bergen", settings=settings, adapters=ADAPTERS)
    with pytest.raises(NotFound):
        load_manifest("../oslo.yaml", settings=settings, adapters=ADAPTERS)


def test_a_glob_gives_a_batch_for_each_match_in_order_with_the_same_further_files(tmp_path):
    folder = tmp_path / "[old] city"  # brackets in a folder's name are no pattern
    (folder / "data").mkdir(parents=True)
    for name in ("data/b.npz", "data/a.npz", "data/c.txt", "adjacency.csv"):
        (folder / name).write_bytes(b"")
    (folder / "data/d.npz").mkdir()
    manifest = loaded(folder, GOOD)
    settings = Settings()
    assert [dict(batch.files) for batch in locate(manifest, manifest.source("loops"), settings)] == [
        {"data": str(folder / f"data/{name}.npz"), "adjacency": str(folder / "adjacency.csv")} for name in "ab"
    ]
    assert [dict(batch.files) for batch in locate(manifest, manifest.source("docks"), settings)] == [
        {
            "data": "https://feeds.example/docks.csv?key=${ENV:OSLO_KEY}",
            "stations": "https://feeds.example/stations.csv",
        }
    ]


def test_a_variable_at_the_start_of_a_path_is_the_setting_of_that_name(tmp_path):
    data = tmp_path / "published"
    (data / "oslo").mkdir(parents=True)
    (data / "oslo" / "a.npz").write_bytes(b"")
    text = GOOD.replace("data/*.npz", "${MTGPT_REAL_DATA}/oslo/*.npz").replace("{adjacency: adjacency.csv}", "{}")
    manifest = loaded(tmp_path, text)
    (batch,) = locate(manifest, manifest.source("loops"), Settings(real_data=data))
    assert batch.files["data"] == str(data / "oslo" / "a.npz")
    with pytest.raises(NotFound, match="Set MTGPT_REAL_DATA to the folder"):
        locate(manifest, manifest.source("loops"), Settings(real_data=tmp_path / "none"))


def test_a_further_file_must_be_there_and_be_one(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.npz").write_bytes(b"")
    manifest = loaded(tmp_path, GOOD.replace("adjacency.csv", "adj*.csv"))
    with pytest.raises(NotFound, match=r"oslo\.loops\.files\.adjacency"):
        locate(manifest, manifest.source("loops"), Settings())
    for name in ("adj1.csv", "adj2.csv"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ManifestError, match="several files match"):
        locate(manifest, manifest.source("loops"), Settings())


def test_the_schema_knows_each_kind_with_its_options_files_and_variables():
    schema = manifest_schema(ADAPTERS, ["speed", "flow"])
    source = schema["$defs"]["Source"]
    assert source["properties"]["kind"]["enum"] == ["grid", "paired"]
    paired = source["allOf"][1]["then"]
    assert paired["required"] == ["files", "options"]
    assert paired["properties"]["files"] == {"propertyNames": {"enum": ["stations"]}, "required": ["stations"]}
    assert schema["$defs"]["GridOptions"]["required"] == ["variable"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(CityManifest.model_fields)
    assert "speed" in json.dumps(schema["$defs"]["PanelSpec"])


def test_a_source_prints_no_secret_value():
    source = Source.model_validate_json(
        json.dumps({"id": "a", "kind": "grid", "url": "http://x.example/", "headers": {"X-Key": "${ENV:A}"}})
    )
    assert "${ENV:A}" in repr(source)


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=8)
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=5), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@profile(deadline=None)  # a shared machine may pause
@given(tree=_TREES)
def test_json_is_yaml_with_the_same_values(tree):
    assert parse_yaml(json.dumps(tree, ensure_ascii=False) + "\n").value == tree


@profile(deadline=None)  # a shared machine may pause
@given(text=st.text(max_size=200))
@example("\x1f")
@example("\ud800")
@example('"\\ud800"')
@example("? [a]\n: b")
@example("a: 0x1_\nb: 1:60\nc: .inf")
def test_any_text_is_a_document_or_a_fault(text):
    with suppress(YamlFault):
        assert parse_yaml(text).line(()) >= 1


def test_the_manifests_of_this_project_are_sound_and_named_after_their_city():
    settings = Settings()
    for manifest in list_manifests(settings):
        assert manifest.file == (settings.cities / f"{manifest.city}.yaml").resolve()
