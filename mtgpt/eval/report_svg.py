"""Charts as inline SVG: fans, maps, error curves. Colours and fonts come from the page's style sheet.

Drawn by hand instead of by a plotting library so that a chart follows the reader's colour scheme, stays sharp on every
screen and carries its own description for people who cannot see it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtgpt.eval.report_html import Html, el, number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 440.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 12.0, 28.0, 30.0

MAP_BOUNDS = (0.4, 0.6, 0.75, 0.9)
"""Edges of the map's classes: value as a share of the spot's own free or usual level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Where data lie on the paper: linear in both directions."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Paper coordinates of a point of the data."""
        width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1.0)
        return _LEFT + across * width, _TOP + (1 - up) * height

    def points(self, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray) -> list[str]:
        """Runs of finite points as the text that SVG wants; a gap in the data is a gap in the line."""
        runs: list[list[str]] = [[]]
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(y):
                px, py = self.at(float(x), float(y))
                runs[-1].append(f"{px:.1f},{py:.1f}")
            elif runs[-1]:
                runs.append([])
        return [" ".join(run) for run in runs if run]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fan:
    """What a fan shows; x in seconds from now.

    Attributes:
        history_x: [L].
        history: [L].
        ahead_x: [H], all positive or zero.
        end: End of the last step.
        median: [H].
        bands: (coverage, lower [H], upper [H]), widest first.
        observed: [H] or None.
        unit: Of the values.
        description: The chart in one sentence.
    """

    history_x: np.ndarray
    history: np.ndarray
    ahead_x: np.ndarray
    end: float
    median: np.ndarray
    bands: list[tuple[float, np.ndarray, np.ndarray]]
    observed: np.ndarray | None
    unit: str
    description: str


def fan(data: Fan, *, clock: Callable[[float], str]) -> Html:
    """History to the left of now; median, bands and what happened to the right."""
    values = [data.history, data.median, *(edge for _, low, high in data.bands for edge in (low, high))]
    if data.observed is not None:
        values.append(data.observed)
    first = float(data.history_x[0]) if len(data.history_x) else 0.0
    axes = Axes(x=(first, data.end), y=_range(values))
    parts = [*_grid(axes, data.unit), *_time_axis(axes, clock)]
    top, bottom = axes.at(0, axes.y[1])[1], axes.at(0, axes.y[0])[1]
    now = axes.at(0, axes.y[0])[0]
    parts.append(el("line", x1=_p(now), x2=_p(now), y1=_p(top), y2=_p(bottom), class_="now"))
    for coverage, low, high in data.bands:
        known = np.isfinite(low) & np.isfinite(high)
        if known.any():
            edge = axes.points(data.ahead_x[known], high[known]) + axes.points(
                data.ahead_x[known][::-1], low[known][::-1]
            )
            parts.append(el("polygon", points=" ".join(edge), class_=f"band band{round(coverage * 100)}"))
    parts += [el("polyline", points=run, class_="history") for run in axes.points(data.history_x, data.history)]
    parts += [el("polyline", points=run, class_="median") for run in axes.points(data.ahead_x, data.median)]
    if data.observed is not None:
        for x, y in zip(data.ahead_x, data.observed, strict=True):
            if math.isfinite(y):
                px, py = axes.at(float(x), float(y))
                parts.append(el("circle", cx=_p(px), cy=_p(py), r=3.2, class_="observed"))
    return _svg(parts, data.description)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A spot on the map.

    Attributes:
        x: Metres east.
        y: Metres north.
        share: Value as a share of the spot's own reference; NaN where unknown.
        text: What hovering says.
    """

    x: float
    y: float
    share: float
    text: str


def city_map(dots: list[Dot], edges: list[tuple[int, int]], description: str) -> Html:
    """Spots coloured by class, slow ones larger, over the links between them; a scale bar below."""
    x, y = np.array([d.x for d in dots]), np.array([d.y for d in dots])
    span_x, span_y = max(float(np.ptp(x)), 1.0), max(float(np.ptp(y)), 1.0)
    width, margin, foot = WIDTH, 16.0, 26.0
    scale = (width - 2 * margin) / max(span_x, span_y)
    height = span_y * scale + 2 * margin + foot
    left = (width - span_x * scale) / 2

    def at(i: int) -> tuple[float, float]:
        return left + (x[i] - x.min()) * scale, margin + (y.max() - y[i]) * scale

    parts = []
    for a, b in edges:
        (ax, ay), (bx, by) = at(a), at(b)
        parts.append(el("line", x1=_p(ax), y1=_p(ay), x2=_p(bx), y2=_p(by), class_="street"))
    # The slowest are drawn last, on top.
    for i in sorted(range(len(dots)), key=lambda i: -_or(dots[i].share, 9.0)):
        cx, cy = at(i)
        rank = map_class(dots[i].share)
        radius = 3.4 if rank is None else (7.2, 6.4, 5.6, 4.8, 4.4)[rank]
        name = "unknown" if rank is None else f"c{rank}"
        parts.append(el("circle", el("title", dots[i].text), cx=_p(cx), cy=_p(cy), r=radius, class_=f"dot {name}"))
    length_m = _nice(span_x / 4)
    bar_y, bar = height - 10, length_m * scale
    parts.append(el("path", d=f"M{margin:.1f} {bar_y - 4:.1f}v4h{bar:.1f}v-4", class_="scale"))
    label = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    parts.append(el("text", label, x=_p(margin + bar + 6), y=_p(bar_y + 2), class_="tick"))
    return _svg(parts, description, height=height)


def map_class(share: float) -> int | None:
    """0 (slowest) to 4 (free), None where unknown."""
    return None if not math.isfinite(share) else int(np.searchsorted(MAP_BOUNDS, share, side="right"))


def curves(
    x: list[float],
    lines: list[tuple[str, str, list[float]]],
    *,
    unit: str,
    clock: Callable[[float], str],
    description: str,
    low: float = 0.0,
    most_labels: int = 4,
) -> Html:
    """Lines, (label, class, values), over a floor that is zero unless the lines lie too far above it to be told apart.

    Args:
        x: Where the values stand.
        lines: Label, class of the style sheet, values.
        unit: Of the values.
        clock: What to write below an x.
        description: The chart in one sentence.
        low: The floor.
        most_labels: Below the axis.
    """
    values = [np.asarray(line, dtype=np.float64) for _, _, line in lines]
    high = max((float(np.nanmax(v)) for v in values if np.isfinite(v).any()), default=1.0)
    ticks = _ticks(low, high if high > low else low + 1.0)
    axes = Axes(x=(x[0], x[-1]), y=(ticks[0], ticks[-1]))
    few = [x[round((i + 1) * len(x) / most_labels) - 1] for i in range(most_labels)]
    shown = x if len(x) <= most_labels else few
    parts = [*_grid(axes, unit), *_time_axis(axes, clock, at=shown)]
    parts += [
        el("polyline", el("title", label), points=run, class_=f"curve {kind}")
        for label, kind, line in lines
        for run in axes.points(x, line)
    ]
    return _svg(parts, description)


def _svg(parts: list[Html], description: str, *, height: float = HEIGHT) -> Html:
    return el("svg", parts, viewBox=f"0 0 {WIDTH:.0f} {height:.0f}", role="img", aria_label=description)


def _grid(axes: Axes, unit: str) -> list[Html]:
    parts = []
    digits = _digits(_ticks(*axes.y))
    ticks = [t for t in _ticks(*axes.y) if axes.y[0] - 1e-9 <= t <= axes.y[1] + 1e-9]
    for tick in ticks:
        px, py = axes.at(axes.x[0], tick)
        parts.append(el("line", x1=_p(px), x2=_p(WIDTH - _RIGHT), y1=_p(py), y2=_p(py), class_="grid"))
        parts.append(el("text", number(tick, digits), x=_p(px - 6), y=_p(py + 4), class_="tick end"))
    parts.append(el("text", unit, x=_p(_LEFT - 6), y=_p(_TOP - 14), class_="tick end"))
    return parts


def _time_axis(axes: Axes, clock: Callable[[float], str], at: Sequence[float] | None = None) -> list[Html]:
    if at is None:
        step = next(
            (s for s in (900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400) if (axes.x[1] - axes.x[0]) / s <= 6),
            86_400 * 7,
        )
        at = [float(t) for t in np.arange(math.ceil(axes.x[0] / step) * step, axes.x[1] + 1, step)]
    y = HEIGHT - 9
    return [el("text", clock(t), x=_p(axes.at(t, axes.y[0])[0]), y=_p(y), class_="tick mid") for t in at]


def _range(values: list[np.ndarray]) -> tuple[float, float]:
    flat = np.concatenate([np.asarray(v, dtype=np.float64).ravel() for v in values])
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return 0.0, 1.0
    low, high = float(flat.min()), float(flat.max())
    # A physical quantity that comes near zero is drawn from zero: half a range would make ripples look like waves.
    if 0 <= low <= 0.6 * high:
        low = 0.0
    ticks = _ticks(low, high if high > low else low + 1.0)
    return ticks[0], ticks[-1]


def _ticks(low: float, high: float) -> list[float]:
    step = _nice((high - low) / 4)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, max(last, first + 1) + 1)]


def _digits(ticks: list[float]) -> int:
    return next((digits for digits in range(4) if all(abs(t - round(t, digits)) < 1e-9 for t in ticks)), 4)


def _nice(value: float) -> float:
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= value * 0.999)


def _or(value: float, other: float) -> float:
    return value if math.isfinite(value) else other


def _p(value: float) -> str:
    return f"{value:.1f}"
