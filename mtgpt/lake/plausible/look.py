"""Values that keep every rule and are wrong all the same: a scale that jumped, a sensor that froze, two that swapped.

A contract judges a row by itself; ×1000 of a small count lies within any range that a big station needs. Here every
series is compared with its own past, and where it has none with its peers. All looks are taken at one value an hour:
a fault that lasts shows in it, and it costs a tenth of a look at every row. The rules, each meant to be silent on a
real feed on a strange day rather than to catch everything:

* **scale**: values 30 times above (below) the series' median and beyond everything it ever had by another factor
  of 3, three hours on end. A series without a past is compared with the batch's own hours, and, as a whole, with
  the other series of its variable: 30 times their median, beyond their greatest value and apart from all medians.
* **frozen**: one value, not zero, for six hours or longer, in a series that hardly ever repeats itself: as often as it
  does otherwise, so long a repetition has a chance of at most 1 in 10,000. Counted variables and stocks (bikes in a
  dock) may rest.
* **swapped**: for two days or more (or since the last one), two series follow each other's usual day as clearly as they
  follow their own on all the other days, and each the other's better than anyone else's.

Shapes: S series of one variable, H hours, D days.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

SCALE, FROZEN, SWAPPED = "scale", "frozen", "swapped"
Reason = Literal["scale", "frozen", "swapped"]

_JUMP, _BEYOND, _ALONE = 30.0, 3.0, 10.0
_LEAST_RUN = 3
_LEAST_PAST = 24
_LEAST_PEERS = 8
HELD_SHARE = 0.5
"""A batch is held where so many series of one variable jump the same way."""

_FROZEN_HOURS = 6
_FROZEN_CHANCE = 1e-4
_FROZEN_REPEATS = 0.2
_FROZEN_CROWD, _FROZEN_FEW = 0.1, 2
_SELDOM = 0.01

_SWAP_HOURS, _SWAP_ALIVE = 18, 12
_SWAP_DAYS = 4
_SWAP_MISFIT, _SWAP_CROWD = 1.3, 0.25
_SWAP_GAIN, _SWAP_VAGUE, _SWAP_APART = 0.5, 0.1, 1.0
_SWAP_FIT, _SWAP_ONCE = 2.0, 0.8
_SWAP_CAP, _SWAP_FLOOR = 8.0, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """One value an hour of all series of one variable of a source.

    Attributes:
        hour: int64 [H], hours since 1970 UTC, increasing.
        value: float32 [S, H], NaN where there is none.
        new: bool [S, H], values of the batch that is judged; the others are the past.
        fine: bool [S, H], values that were not suspect when they came; of new ones all.
        may_rest: Counted variables and stocks: an unchanging value is no sign.
    """

    hour: np.ndarray
    value: np.ndarray
    new: np.ndarray
    fine: np.ndarray
    may_rest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """New values of one series that look wrong.

    Attributes:
        series: Its row.
        reason: What is wrong.
        first: First hour.
        last: Last hour.
        value: The value it froze at.
    """

    series: int
    reason: Reason
    first: int
    last: int
    value: float = np.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """How many series of one variable left their own past, by the way they went.

    Attributes:
        series: Series with a past and new values.
        up: Of these, how many are far above it.
        down: How many are far below.
        factor: Median factor of those that went the more frequent way.
    """

    series: int
    up: int
    down: int
    factor: float

    @property
    def held(self) -> bool:
        """Whether it is the feed that changed, and not its sensors."""
        return self.series >= _LEAST_RUN and max(self.up, self.down) >= HELD_SHARE * self.series


def findings(hours: Hours) -> tuple[list[Finding], Jump]:
    """Looks at the new values of one variable.

    Returns:
        What looks wrong, and how many series jumped.
    """
    found, jump = scale_jumps(hours)
    found += [] if hours.may_rest else frozen(hours)
    found += swapped(hours)
    return found, jump


def scale_jumps(hours: Hours) -> tuple[list[Finding], Jump]:
    """New values that are a factor of 30 or more away from all that the series had before."""
    size = np.abs(hours.value)
    with np.errstate(invalid="ignore"):
        there = size > 0
    if not (there & hours.new).any():
        return [], Jump(series=0, up=0, down=0, factor=np.nan)
    past = there & ~hours.new & hours.fine
    fresh = there & hours.new
    with_past = past.sum(axis=1) >= _LEAST_PAST
    rest = np.where(with_past[:, None], past, fresh)
    ordered = np.sort(np.where(rest, size, np.nan), axis=1)
    count = rest.sum(axis=1)
    middle = _at(ordered, (count - 1) // 2, count)
    enough = (count >= _LEAST_PAST) & (middle > 0)
    high = np.where(with_past, _at(ordered, count - 1, count), _below_gap(ordered, middle * _JUMP))
    low = np.where(with_past, _at(ordered, np.zeros_like(count), count), _above_gap(ordered, middle / _JUMP))
    # One value alone must say more than three together.
    beyond = np.where(fresh.sum(axis=1) >= _LEAST_RUN, _BEYOND, _ALONE)
    with np.errstate(invalid="ignore"):
        up = fresh & enough[:, None] & (size >= np.maximum(_JUMP * middle, beyond * high)[:, None])
        down = fresh & enough[:, None] & (size <= np.minimum(middle / _JUMP, low / beyond)[:, None])
    up, down = _lasting(up, fresh), _lasting(down, fresh)
    alone = np.flatnonzero(~with_past & (count >= _LEAST_RUN))
    whole = np.zeros(len(size), dtype=bool)
    least, most = ordered[alone, 0], ordered[alone, count[alone] - 1]
    whole[alone] = _unlike_peers(middle[alone], least, most)
    new = np.maximum(fresh.sum(axis=1), 1)
    went_up, went_down = ((part.sum(axis=1) > new / 2) & with_past for part in (up, down))
    more = went_up if went_up.sum() >= went_down.sum() else went_down
    factor = np.nan
    if more.any():
        factor = float(
            _median(np.where(fresh, size, np.nan)[more].ravel() / np.repeat(middle[more], fresh.shape[1]), axis=0)
        )
    jump = Jump(
        series=int((with_past & fresh.any(axis=1)).sum()),
        up=int(went_up.sum()),
        down=int(went_down.sum()),
        factor=factor,
    )
    return list(_spans(up | down | (fresh & whole[:, None]), hours, SCALE)), jump


def frozen(hours: Hours) -> list[Finding]:
    """Runs of one value that are too long for how seldom the series repeats itself; unproven between the hours."""
    peers, resting = _repeats(hours)
    row, column = np.nonzero(np.isfinite(hours.value) & resting[:, None])
    value = hours.value[row, column]
    if value.size == 0:
        return []
    new, fine = hours.new[row, column], hours.fine[row, column]
    joined = np.r_[False, row[1:] == row[:-1]]
    pair = joined & np.r_[False, (value[1:] != 0) | (value[:-1] != 0)] & fine
    same = joined & np.r_[False, value[1:] == value[:-1]] & (value != 0)
    run = np.cumsum(~same) - 1
    start = np.flatnonzero(~same)
    length = np.bincount(run)
    stop = start + length - 1
    first, last = hours.hour[column[start]], hours.hour[column[stop]]
    long = (length >= _FROZEN_HOURS) & (last - first + 1 >= _FROZEN_HOURS)
    long &= np.bincount(run, new) > 0
    if not long.any():
        return []
    outside = pair & ~long[run]
    series = hours.value.shape[0]
    pairs = np.bincount(row[outside], minlength=series)
    repeats = np.bincount(row[outside & same], minlength=series)
    own = repeats / np.maximum(pairs, 1)
    chance = np.maximum(np.where(pairs >= _LEAST_PAST, own, peers), _SELDOM)
    at = row[start]
    long &= (chance[at] <= _FROZEN_REPEATS) & (chance[at] ** (length - 1) <= _FROZEN_CHANCE)
    return [
        Finding(series=int(at[i]), reason=FROZEN, first=int(first[i]), last=int(last[i]), value=float(value[start[i]]))
        for i in _not_natural(np.flatnonzero(long), at, first, series=series)
    ]


def _repeats(hours: Hours) -> tuple[float, np.ndarray]:
    """How often the middle one of the series repeats itself; bool [S], series that do so three hours on end."""
    value = hours.value
    pair = np.isfinite(value[:, 1:]) & np.isfinite(value[:, :-1]) & hours.fine[:, 1:]
    same = (value[:, 1:] == value[:, :-1]) & (value[:, 1:] != 0)
    resting = (same[:, 2:] & same[:, 1:-1] & same[:, :-2]).any(axis=1)
    pair &= (value[:, 1:] != 0) | same
    count = pair.sum(axis=1)
    usual = np.sort((same & pair).sum(axis=1)[count >= _LEAST_PAST] / count[count >= _LEAST_PAST])
    return float(usual[usual.size // 2]) if usual.size else 1.0, resting


def _not_natural(runs: np.ndarray, series_of: np.ndarray, first: np.ndarray, *, series: int) -> np.ndarray:
    """Leaves out runs where they are the nature of what is measured: in many series, each at its own time.

    A car that charges at a constant power rests for hours, in nearly every charger's series. A feed that repeats
    itself stops all of its sensors at once.
    """
    affected = np.unique(series_of[runs]).size
    if affected <= max(_FROZEN_FEW, _FROZEN_CROWD * series):
        return runs
    _, moment, together = np.unique(first[runs], return_inverse=True, return_counts=True)
    return runs[together[moment] > affected / 2]


def swapped(hours: Hours) -> list[Finding]:
    """Pairs of series that follow each other's usual day instead of their own."""
    day = hours.hour // 24
    days, begins, number = np.unique(day, return_index=True, return_inverse=True)
    series = hours.value.shape[0]
    if days.size < _SWAP_DAYS + 1 or series < _LEAST_PEERS:
        return []
    level = np.full((series, days.size, 24), np.nan, np.float32)
    clean = np.where(hours.fine, hours.value, np.nan)
    # Counts of a hundred and of ten thousand differ alike by day and by night.
    level[:, number, hours.hour % 24] = np.sign(clean) * np.log1p(np.abs(clean))
    new = np.logical_or.reduceat(hours.new, begins, axis=1)
    usual = _median(level, axis=1)
    # What the whole city does on a day (rain, a holiday) is nobody's swap.
    level -= _median(level - usual[:, None], axis=0)
    spread = _median(np.abs(level - usual[:, None]), axis=1)
    spread = np.maximum(spread, np.maximum(_median(spread, axis=1) / 2, _SWAP_FLOOR)[:, None])
    own, seen = _misfit(level, usual[:, None], spread[:, None])
    own = np.where(seen >= _SWAP_HOURS, own, np.nan)
    typical = _median(own, axis=1)
    with np.errstate(invalid="ignore"):
        odd = new & (own > _SWAP_MISFIT * typical[:, None])
    # A day that is mostly zeros is nobody's own.
    alive = (np.abs(usual) > 0).sum(axis=1) >= _SWAP_ALIVE
    odd &= (alive & (np.isfinite(own).sum(axis=1) > _SWAP_DAYS))[:, None]
    pairs: set[tuple[int, int]] = set()
    for d in np.flatnonzero(odd.any(axis=0)):
        who = np.flatnonzero(odd[:, d])
        if 2 <= who.size <= max(_SWAP_CROWD * series, 4):
            # [who, who]: each odd series' day against each one's usual day.
            cross, _ = _misfit(level[who, d][:, None], usual[who], spread[who])
            pairs |= {(int(who[one]), int(who[two])) for one, two in _mutual(cross)}
    found = []
    for pair in sorted(pairs):
        one, two = list(pair), list(pair[::-1])
        cross, _ = _misfit(level[one], usual[two][:, None], spread[two][:, None])
        turned = _turned((own[one] - cross).sum(axis=0))
        with np.errstate(invalid="ignore"):
            turned &= (cross <= _SWAP_FIT * typical[two][:, None]).all(axis=0)
        for d in np.flatnonzero(turned & new[one].any(axis=0)):
            found += [
                Finding(series=at, reason=SWAPPED, first=int(days[d] * 24), last=int(days[d] * 24 + 23)) for at in one
            ]
    return found


def _mutual(cross: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of which each fits the other's usual day better than anyone else's."""
    cross = np.where(np.isfinite(cross), cross, np.inf)
    np.fill_diagonal(cross, np.inf)
    best = cross.argmin(axis=1)
    yield from ((one, int(two)) for one, two in enumerate(best) if one < two and best[two] == one)


def _turned(gain: np.ndarray) -> np.ndarray:
    """Bool [D]: days on which a pair fits each other's usual days as clearly as it fits its own on all the others.

    Two series that are hard to tell apart, or without a usual day, lie near zero on many days and say nothing.

    Args:
        gain: [D] how much better the pair fits each other's usual day than its own.
    """
    with np.errstate(invalid="ignore"):
        normal = gain < 0
    usual = float(_median(np.where(normal, -gain, np.nan), axis=0))
    if not usual >= _SWAP_APART:
        return np.zeros(gain.size, dtype=bool)
    known = np.isfinite(gain)
    with np.errstate(invalid="ignore"):
        turned = gain >= _SWAP_GAIN * usual
        # Cables stay where they are: a day alone is chance, unless it is the last one and a clear one.
        beside = np.r_[False, turned[:-1]] | np.r_[turned[1:], gain[-1] >= _SWAP_ONCE * usual]
        vague = np.abs(gain) < _SWAP_GAIN * usual
    sound = normal.sum() >= _SWAP_DAYS and vague.sum() <= _SWAP_VAGUE * known.sum()
    return turned & beside & sound


def _misfit(level: np.ndarray, usual: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean distance of days from usual days (hours last) in units of their spread, and over how many hours."""
    gap = np.minimum(np.abs(level - usual) / spread, _SWAP_CAP)
    there = np.isfinite(gap)
    seen = there.sum(axis=-1)
    total = np.where(there, gap, 0).sum(axis=-1)
    return np.where(seen > 0, total / np.maximum(seen, 1), np.nan), seen


def _unlike_peers(middle: np.ndarray, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Bool [n]: series without a past whose values lie as a whole far from those of all their peers.

    Args:
        middle: [n] median of each series.
        least: [n] its least value.
        most: [n] its greatest value.
    """
    odd = np.zeros(middle.size, dtype=bool)
    if middle.size < _LEAST_PEERS:
        return odd
    rank = np.argsort(middle)
    usual = middle[rank[rank.size // 2]]
    step = middle[rank][1:] / middle[rank][:-1]
    # Those above (below) a wide gap, if few are there.
    few = max(1, middle.size // 10)
    above, below = np.flatnonzero(step[-few:] >= _ALONE), np.flatnonzero(step[:few] >= _ALONE)
    if above.size:
        those, others = np.split(rank, [middle.size - few + int(above[0])])[::-1]
        odd[those] = (middle[those] >= _JUMP * usual) & (middle[those] >= _BEYOND * most[others].max())
    if below.size:
        those, others = np.split(rank, [int(below[-1]) + 1])
        odd[those] |= (middle[those] <= usual / _JUMP) & (middle[those] <= least[others].min() / _BEYOND)
    return odd


def _at(ordered: np.ndarray, place: np.ndarray, count: np.ndarray) -> np.ndarray:
    found = ordered[np.arange(len(ordered)), np.maximum(place, 0)]
    return np.where(count > 0, found, np.nan)


def _below_gap(ordered: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Greatest value [S] below the lowest gap of a factor of 3 that lies at or above ``limit``."""
    if ordered.shape[1] < 2:
        return ordered[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = (ordered[:, 1:] >= _BEYOND * ordered[:, :-1]) & (ordered[:, 1:] >= limit[:, None])
    where = np.where(gap.any(axis=1), gap.argmax(axis=1), np.isfinite(ordered).sum(axis=1) - 1)
    return ordered[np.arange(len(ordered)), np.maximum(where, 0)]


def _above_gap(ordered: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Least value [S] above the highest gap of a factor of 3 that lies at or below ``limit``."""
    if ordered.shape[1] < 2:
        return ordered[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = (ordered[:, :-1] <= ordered[:, 1:] / _BEYOND) & (ordered[:, :-1] <= limit[:, None])
    last = gap.shape[1] - 1 - gap[:, ::-1].argmax(axis=1)
    where = np.where(gap.any(axis=1), last + 1, 0)
    return ordered[np.arange(len(ordered)), where]


def _lasting(odd: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Those in runs of three or more among the new values that are not zero; all where there are fewer than three."""
    if not odd.any():
        return odd
    row, column = np.nonzero(fresh)
    flag = odd[row, column]
    begins = np.r_[True, (row[1:] != row[:-1]) | (flag[1:] != flag[:-1])]
    run = np.cumsum(begins) - 1
    many = np.bincount(run)[run] >= np.minimum(_LEAST_RUN, fresh.sum(axis=1)[row])
    kept = np.zeros_like(odd)
    kept[row, column] = flag & many
    return kept


def _spans(odd: np.ndarray, hours: Hours, reason: Reason) -> Iterator[Finding]:
    """Runs of odd cells, as hours; new zeros and gaps between them do not part them."""
    if not odd.any():
        return
    row, column = np.nonzero((odd | (hours.new & np.isfinite(hours.value) & (hours.value != 0))) & hours.new)
    flag = odd[row, column]
    begins = np.flatnonzero(np.r_[True, (row[1:] != row[:-1]) | (flag[1:] != flag[:-1])])
    ends = np.r_[begins[1:], row.size] - 1
    for start, stop in zip(begins[flag[begins]], ends[flag[begins]], strict=True):
        yield Finding(
            series=int(row[start]),
            reason=reason,
            first=int(hours.hour[column[start]]),
            last=int(hours.hour[column[stop]]),
        )


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """Lower median of what is finite; NaN where nothing is. Several times as fast as numpy's own."""
    ordered = np.sort(values, axis=axis)
    count = np.isfinite(values).sum(axis=axis, keepdims=True)
    found = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0), axis=axis)
    return np.where(count > 0, found, np.nan).squeeze(axis)
