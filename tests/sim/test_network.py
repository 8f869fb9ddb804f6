"""The simulated city's streets."""

from mtgpt.sim.network import CENTRE_LAT, CENTRE_LON, build_network, detector_links, detector_place


def test_the_city_has_more_than_a_hundred_detectors_each_with_an_id_of_its_own():
    ids = [street.detector for street in build_network().detectors]
    assert len(ids) >= 100
    assert len(set(ids)) == len(ids)


def test_every_street_leads_on_so_that_no_trip_is_trapped():
    network = build_network()
    starts = {street.start for street in network.streets}
    assert {street.end for street in network.streets} == starts
    assert starts == {junction.name for junction in network.junctions}


def test_the_two_directions_of_a_street_are_two_places():
    network = build_network()
    there, back = network.detectors[:2]
    assert (there.start, there.end) == (back.end, back.start)
    assert detector_place(network, there) != detector_place(network, back)


def test_detectors_lie_within_fifteen_kilometres_of_the_centre():
    network = build_network()
    for street in network.detectors:
        lon, lat = detector_place(network, street)
        assert abs(lat - CENTRE_LAT) < 0.14
        assert abs(lon - CENTRE_LON) < 0.2


def test_a_link_never_turns_back_and_straight_on_weighs_more_than_a_turn():
    network = build_network()
    street = {one.detector: one for one in network.detectors}
    links = detector_links(network)
    assert {weight for *_, weight in links} == {0.5, 1.0}
    for origin, target, metres, weight in links:
        a, b = street[origin], street[target]
        assert a.end == b.start
        assert a.start != b.end
        assert metres == (a.length_m + b.length_m) / 2
        assert (weight == 1.0) == (a.road == b.road)


def test_the_streets_are_the_same_every_time():
    assert build_network() == build_network()
