"""A breaking change against the last release is refused."""

from __future__ import annotations

import shutil

import pytest

from mtgpt.contracts.breaking import (
    _last_release,
    compare_with_release,
    compare_with_releases,
    next_version,
)
from mtgpt.errors import ContractError, NotFound


def test_no_contract_breaks_its_last_release(repo):
    for name, one in compare_with_releases(repo / "data_contracts").items():
        if one.problem is not None:
            raise one.problem
        assert one.released is not None, name


@pytest.fixture
def folder(repo, tmp_path):
    """The last release as the current state, whatever the checkout is at."""
    folder = shutil.copytree(repo / "data_contracts", tmp_path / "contracts")
    for path in (folder / "released").iterdir():
        name = path.name.partition("-")[0]
        release = _last_release(folder / "released", name)
        shutil.copy(release[1], folder / (f"{name}.yaml" if name == "variables" else f"{name}.odcs.yaml"))
    return folder


def edit(folder, name: str, *edits: tuple[str, str], raised: str | None = None):
    path = folder / ("variables.yaml" if name == "variables" else f"{name}.odcs.yaml")
    text = path.read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    if raised:
        version = compare_with_release(folder, name).released
        text = text.replace(f"version: {version}", f"version: {next_version(version, raised)}", 1)
    path.write_text(text, encoding="utf-8")
    return compare_with_release(folder, name)


COLUMN = """      - name: {name}
        logicalType: number
        physicalType: float64
        description: Snow in the interval.
"""
RAIN = "      - name: rain_mm\n"
BREAKING = [
    ("weather", [(RAIN, "      - name: precipitation_mm\n")], "the column was renamed"),
    ("weather", [(RAIN, COLUMN.format(name="snow_mm") + "        required: true\n" + RAIN)], "a new required column"),
    ("weather", [("physicalType: float64", "physicalType: float32")], "another or narrower type"),
    ("weather", [("maximum: 60\n", "maximum: 50\n")], "a tighter range"),
    ("weather", [("minimum: -90\n", "minimum: -40\n")], "a tighter range"),
    ("weather", [("value: °C", "value: K")], "the unit changed"),
    ("weather", [("value: EPSG:4326", "value: EPSG:32721")], "the reference system changed"),
    ("weather", [("maxLength: 64", "maxLength: 32")], "a tighter length"),
    ("weather", [("'^[a-z0-9_]+$'", "'^[a-z]+$'")], "the pattern changed"),
    ("weather", [("limit: 86400", "limit: 3600")], "a tighter limit"),
    ("weather", [("limit: 0.05", "limit: 0.01")], "a tighter limit"),
    ("weather", [("fields: [city_id, time_start, interval_s]", "fields: [city_id]")], "the rule checks something else"),
    ("spot", [("detector, stop, station", "stop, station")], "values are not allowed any more"),
    (
        "spot",
        [("        primaryKey: true\n        primaryKeyPosition: 3\n", "")],
        "the key changed",
    ),
    (
        "trip",
        [("description: Place or zone of departure.", "description: X.\n        required: true")],
        "became required",
    ),
    ("variables", [("  queue:", "  queues:")], "the variable is gone"),
    ("variables", [("maximum: 250", "maximum: 200")], "a tighter range"),
    ("variables", [("unit: km/h", "unit: mph")], "unit changed"),
    ("variables", [("sum\n    counted: true", "sum")], "counted changed"),
]
COMPATIBLE = [
    ("weather", [(RAIN, COLUMN.format(name="snow_mm") + RAIN)], "a new optional column"),
    ("weather", [("maximum: 60\n", "maximum: 70\n")], "a wider range"),
    ("weather", [("physicalType: int32", "physicalType: int64")], "a wider type"),
    ("weather", [("limit: 86400", "limit: 172800")], "a wider limit"),
    ("spot", [("detector, stop, station", "detector, camera, stop, station")], "more values are allowed"),
    ("spot", [("pattern: '^\\{[\\s\\S]*\\}$'", "minLength: 0")], "the pattern changed"),
    (
        "variables",
        [
            (
                "  queue:\n",
                "  wait:\n    unit: s\n    description: Waiting.\n    minimum: 0\n    maximum: null\n    aggregate: mean\n  queue:\n",
            )
        ],
        "a new variable",
    ),
    ("variables", [("minimum: -86400", "minimum: null")], "a wider range"),
]


@pytest.mark.parametrize(("name", "edits", "what"), BREAKING, ids=[what for _, _, what in BREAKING])
def test_a_breaking_change_needs_a_new_major_version(folder, name, edits, what):
    one = edit(folder, name, *edits, raised="minor")
    assert what in one.changes[0].what
    assert one.needed == "major"
    assert isinstance(one.problem, ContractError)
    assert "A breaking change needs a new major version" in str(one.problem)
    assert f"version {next_version(one.released, 'major')} or later" in str(one.problem)


@pytest.mark.parametrize("raised", [None, "patch"])
@pytest.mark.parametrize(("name", "edits", "what"), COMPATIBLE, ids=[what for _, _, what in COMPATIBLE])
def test_a_compatible_change_needs_a_new_minor_version(folder, name, edits, what, raised):
    one = edit(folder, name, *edits, raised=raised)
    assert [change.what for change in one.changes] == [what]
    assert one.needed == "minor"
    assert "A compatible change needs a new minor version" in str(one.problem)


@pytest.mark.parametrize(
    ("name", "edits", "raised"),
    [
        *((name, edits, "major") for name, edits, _ in BREAKING),
        *((name, edits, "minor") for name, edits, _ in COMPATIBLE),
    ],
)
def test_with_the_version_raised_enough_a_change_may_be_released(folder, name, edits, raised):
    one = edit(folder, name, *edits, raised=raised)
    assert one.changes
    assert one.problem is None


def test_a_removed_column_and_a_removed_rule_are_told_apart(folder):
    text = (folder / "weather.odcs.yaml").read_text(encoding="utf-8")
    start, end = text.index("      - name: humidity"), text.index("      - name: lon")
    gone = edit(folder, "weather", (text[start:end], ""))
    assert [(change.where, change.what, change.level) for change in gone.changes] == [
        ("humidity", "the column is gone", "major")
    ]
    text = (folder / "trip.odcs.yaml").read_text(encoding="utf-8")
    start, end = text.index("      - name: end_time.order"), text.index("      - name: start_time.not_future")
    gone = edit(folder, "trip", (text[start:end], ""))
    assert [(change.where, change.what, change.level) for change in gone.changes] == [
        ("end_time.order", "the rule is gone", "minor")
    ]


def test_other_words_need_a_new_patch_version(folder):
    one = edit(folder, "link", ("A directed relation", "A relation"))
    assert one.needed == "patch"
    assert "A change of wording needs a new patch version" in str(one.problem)


def test_a_new_version_without_a_change_is_allowed_but_not_an_older_one(folder):
    assert edit(folder, "weather", raised="patch").problem is None
    path = folder / "vehicle.odcs.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("version: 1.0.0", "version: 0.9.0"), encoding="utf-8")
    assert "The version went backwards" in str(compare_with_release(folder, "vehicle").problem)


def test_a_contract_that_was_never_released_says_how_to_release_it(folder):
    for path in (folder / "released").glob("vehicle-*"):
        path.unlink()
    one = compare_with_release(folder, "vehicle")
    assert one.released is None
    assert "released/vehicle-1.0.0.odcs.yaml" in str(one.problem)


def test_a_released_contract_must_not_vanish(folder):
    (folder / "trip.odcs.yaml").unlink()
    with pytest.raises(NotFound, match=r"A released contract is gone .*got trip"):
        compare_with_releases(folder)


def test_the_newest_release_counts_by_number_and_not_by_text(folder):
    for version in ("1.9.0", "1.10.0"):
        text = (
            (folder / "weather.odcs.yaml")
            .read_text(encoding="utf-8")
            .replace("version: 1.0.0", f"version: {version}", 1)
        )
        (folder / "released" / f"weather-{version}.odcs.yaml").write_text(text, encoding="utf-8")
    assert compare_with_release(folder, "weather").released == "1.10.0"


@pytest.mark.parametrize("name", ["link-1.0.odcs.yaml", "notes.txt", "variables-1.0.0.odcs.yaml"])
def test_a_stray_file_among_the_snapshots_is_refused(folder, name):
    (folder / "released" / name).touch()
    with pytest.raises(ContractError, match="The file is no snapshot"):
        compare_with_releases(folder)


def test_a_snapshot_whose_name_lies_is_refused(folder):
    shutil.copy(folder / "weather.odcs.yaml", folder / "released" / "weather-7.0.0.odcs.yaml")
    with pytest.raises(ContractError, match=r"The snapshot's name lies \(got 1\.0\.0, expected 7\.0\.0\)"):
        compare_with_releases(folder)
