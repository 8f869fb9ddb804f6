"""The closed vocabulary."""

from __future__ import annotations

import pytest

from mtgpt.contracts.variables import variable, variables
from mtgpt.errors import NotFound


def test_speed_is_a_mean_in_kilometres_per_hour():
    speed = variable("speed")
    assert (speed.unit, speed.minimum, speed.maximum, speed.aggregate, speed.counted) == ("km/h", 0, 250, "mean", False)


def test_counts_of_people_and_trips_are_zero_where_a_covered_source_has_no_row():
    counted = {name for name, one in variables().items() if one.counted}
    assert counted == {"boardings", "alightings", "entries", "exits", "departures", "arrivals", "pedestrians"}
    assert all(variable(name).aggregate == "sum" for name in counted)


def test_only_delay_may_be_negative():
    assert [name for name, one in variables().items() if one.minimum < 0] == ["delay"]


def test_an_unknown_variable_is_answered_with_the_vocabulary():
    with pytest.raises(NotFound, match="got velocity, expected speed, flow, occupancy"):
        variable("velocity")
