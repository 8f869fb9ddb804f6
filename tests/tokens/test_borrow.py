from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from mtgpt.tokens.dense import encode, window
from mtgpt.tokens.history import make_history
from mtgpt.tokens.seasonal import SeasonalConfig, fold
from tests.synthetic import small_panel

P = 12


@pytest.fixture(scope="module")
def panel():
    return small_panel(gaps=0)


def silenced(panel, *spots: int, until: int | None = None):
    values = np.array(panel.values)
    values[:until, list(spots)] = np.nan
    return replace(panel, values=values)


def neighbours(panel, spot: int) -> list[int]:
    both = (panel.graph + panel.graph.T).toarray()
    return np.flatnonzero(both[spot, :8]).tolist()


def mean_of(panel, spots) -> np.ndarray:
    return np.asarray(panel.values)[:, list(spots)].mean(1)


def middle(panel) -> int:
    """A spot in the middle of the line: two neighbours, and two beyond them."""
    return next(s for s in range(8) if all(len(neighbours(panel, t)) == 2 for t in (s, *neighbours(panel, s))))


def test_a_silent_spot_is_taken_for_the_mean_of_its_neighbours(panel):
    spot = middle(panel)
    history = make_history(silenced(panel, spot), patch=P)
    assert history.loan.index.tolist() == [spot]
    between = mean_of(panel, neighbours(panel, spot))
    np.testing.assert_allclose(history.loan.values[:, 0], between, rtol=1e-5)
    lent = fold(between[:, None], panel.calendar, SeasonalConfig(patch=P))
    np.testing.assert_allclose(history.states.location[3:, spot], lent.location[3:, 0], rtol=1e-5)
    np.testing.assert_allclose(history.states.expected[3:, :, spot], lent.expected[3:, :, 0], rtol=1e-5)
    assert (history.states.days_seen[:, spot] == 0).all()
    assert history.alive[1:, spot].all()


def test_its_tokens_are_finite_and_say_that_nothing_was_measured(panel):
    spot = middle(panel)
    view = window(make_history(silenced(panel, spot), patch=P), np.array([300]))
    tokens, _ = encode(view)
    assert np.isfinite(tokens.features).all()
    assert np.isfinite(tokens.anchors).all()
    assert (view.seen[0, :, spot] == 0).all()
    physical = view.z[0, :, spot] * view.scale[0, spot] + view.location[0, spot]
    np.testing.assert_allclose(physical, mean_of(panel, neighbours(panel, spot))[289:301], rtol=1e-3)


def test_with_silent_neighbours_the_second_ring_lends_and_without_any_the_corridor(panel):
    spot = middle(panel)
    near = neighbours(panel, spot)
    second = make_history(silenced(panel, spot, *near), patch=P)
    at = second.loan.index.tolist().index(spot)
    beyond = {t for s in near for t in neighbours(panel, s)} - {spot}
    np.testing.assert_allclose(second.loan.values[:, at], mean_of(panel, beyond), rtol=1e-5)
    alone = replace(silenced(panel, spot), graph=csr_array(panel.graph.shape, dtype=np.float32))
    corridor = panel.series["corridor"][:8].to_numpy()
    kin = set(np.flatnonzero(corridor == corridor[spot]).tolist()) - {spot}
    np.testing.assert_allclose(make_history(alone, patch=P).loan.values[:, 0], mean_of(panel, kin), rtol=1e-5)


def test_from_its_second_day_on_a_spot_stands_on_its_own_feet(panel):
    start = int(np.searchsorted(panel.calendar.day, 4))
    late = make_history(silenced(panel, 3, until=start), patch=P)
    own = fold(np.array(silenced(panel, 3, until=start).values), panel.calendar, SeasonalConfig(patch=P))
    assert np.array_equal(late.states.location[5:, 3], own.location[5:, 3])
    assert np.array_equal(late.states.expected[5:, :, 3], own.expected[5:, :, 3])
    assert late.states.location[4, 3] > 50


def test_what_is_lent_never_depends_on_what_comes_later(panel):
    quiet = silenced(panel, 3, 4)
    cut = 400
    values = np.array(quiet.values)
    values[cut + 1 :] = 1e9  # also where a spot was silent: its first words are poison
    clean, dirty = make_history(quiet, patch=P), make_history(replace(quiet, values=values), patch=P)
    for at in (cut, cut - 40, cut - 97):
        one, other = (encode(window(h, np.array([at])))[0] for h in (clean, dirty))
        for name in one.__slots__:
            assert np.array_equal(getattr(one, name), getattr(other, name)), (at, name)


def test_where_nobody_can_lend_nothing_is_claimed(panel):
    history = make_history(silenced(panel, *range(8)), patch=P)
    assert not history.alive[:, :8].any()
    assert np.isfinite(history.z).all()
