"""Pictures of a forecast: fans of one or several series, and the city as a map.

Drawn through matplotlib's objects alone, so that a server may draw from many threads. Blue and vermilion are told
apart by every kind of colour blindness (Okabe & Ito 2008); the bands differ in lightness and the maps use viridis.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font_names
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from mtgpt.errors import UsageError
from mtgpt.serve.render import city_name, clean, last_value, moments, series_title, source_line, stamp, unit_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from matplotlib.axes import Axes

    from mtgpt.model.forecast import Forecast

INK, GREY, RULE = "#1f2933", "#5f6b76", "#e3e7eb"
MEDIAN, OBSERVED = "#0b4f8a", "#d55e00"
COVERAGES = (0.95, 0.8, 0.5)
BANDS = ("#d9e7f5", "#b3d0ea", "#84b2da")  # one per coverage, wide to narrow
# The first that is there draws; the others fill in what it lacks (Chinese names of stops).
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "PingFang SC")
DPI = 150
_MOST_FANS = 12
_TICK_STEPS_MIN = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440)


def fan(forecast: Forecast, *, title: str | None = None, tail: int | None = None) -> Figure:
    """One panel per series: what was, the median and nested bands of what may come, and what came where it is known.

    Hours outside service (nights, weekends) take no room on the time axis: lines break there and the next label names
    the new day.

    Args:
        forecast: What to draw; of many series the most telling few (the network, corridors, the busiest spots).
        title: Instead of the series' name, or the city's where there are several.
        tail: Steps of history; three times the horizon unless told.
    """
    picked = telling(forecast)
    count = picked.n_series
    columns = 1 if count == 1 else 2 if count in {2, 4} else 3
    rows = -(-count // columns)
    width, cell = (9.0, 3.3) if count == 1 else (4.1 * columns + 0.4, 2.45)
    made = moments(picked, np.array([picked.at]))[0]
    names = [clean(series_title(row)) for row in picked.series.iter_rows(named=True)]
    more = f", {count} of {forecast.n_series} series" if count < forecast.n_series else ""
    figure, corner = _sheet(
        size=(width, cell * rows),
        title=title or (names[0] if count == 1 else f"{city_name(picked)}{more}"),
        subtitle=f"{f'{city_name(picked)} · ' if count == 1 else ''}forecast from {stamp(made)}, "
        f"{_span(picked.horizon * picked.interval_s)} ahead in steps of {_span(picked.interval_s)}",
        footnote=source_line(picked),
    )
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    course = _Course(picked, tail or max(24, 3 * picked.horizon), most_ticks=8 if count == 1 else 5)
    for row, ax in enumerate(axes):
        if row >= count:
            ax.set_axis_off()
            # Shared axes label the lowest row only; above an empty place the one before it is the lowest.
            axes[row - columns].tick_params(labelbottom=True)
            continue
        facts = picked.series.row(row, named=True)
        _draw_fan(ax, course, row)
        ax.set_ylabel(f"{facts['variable']}{unit_text(facts['unit'], ' ({})')}", color=GREY, fontsize=8.5)
        if count > 1:
            ax.set_title(_shortened(names[row].rsplit(" – ", 1)[0], 38), loc="left", fontsize=9.5, color=INK)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=corner,
        ncols=len(labels),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=1.6,
        columnspacing=1.6,
        borderpad=0,
        borderaxespad=0,
    )
    return figure


def city_map(forecast: Forecast, *, title: str | None = None, step: int | None = None) -> Figure:
    """Spots where they lie: their last value, their median at a step ahead, and how wide the 80 % band is there.

    Args:
        forecast: Of at least one spot with a place. Of several variables the one with most spots is drawn.
        title: Instead of the city's name.
        step: Step ahead, from 1; the last one unless told.

    Raises:
        UsageError: No spot has a place.
    """
    rows = _placed(forecast)
    variables = forecast.series["variable"].to_numpy()[rows]
    variable = max(dict.fromkeys(variables), key=lambda name: int((variables == name).sum()))
    shown = forecast.take(rows[variables == variable])
    at = shown.horizon - 1 if step is None else min(max(step, 1), shown.horizon) - 1
    lon, lat = (shown.series[name].to_numpy() for name in ("lon", "lat"))
    stretch = 1 / np.cos(np.radians(np.mean(lat)))  # a degree of longitude is shorter than one of latitude

    unit = unit_text(shown.series["unit"][0], " ({})")
    local = moments(shown, np.concatenate([[shown.at - np.timedelta64(shown.interval_s, "s")], shown.time[[at]]]))
    last, median = last_value(shown.history), shown.median[:, at]
    both = np.concatenate([last, median])
    limits = _robust(both)
    panels = [(f"last seen, {local[0]:%H:%M}", last, "viridis", limits, f"{variable}{unit}")]
    panels.append((f"forecast, {local[1]:%a %H:%M}", median, "viridis", limits, f"median {variable}{unit}"))
    if 0.8 in shown.coverages:
        low, high = shown.band(0.8)
        gap = (high - low)[:, at]
        panels.append(("how unsure", gap, "cividis", _robust(gap, zero=True), f"width of the 80 % band{unit}"))

    shape = float(np.clip(np.ptp(lat) * stretch / max(np.ptp(lon), 1e-6), 0.45, 1.5))
    made = moments(shown, np.array([shown.at]))[0]
    figure, _ = _sheet(
        size=(3.7 * len(panels) + 0.3, 3.5 * shape + 0.7),
        title=title or f"{city_name(shown)}: {variable} at {shown.n_series} spots",
        subtitle=f"forecast from {stamp(made)}, {_span((at + 1) * shown.interval_s)} ahead",
        footnote=source_line(shown),
        legend=False,
    )
    size = float(np.clip(5000 / shown.n_series, 5, 70))
    for ax, (name, values, colours, (low, high), label) in zip(
        figure.subplots(1, len(panels), squeeze=False).ravel(), panels, strict=True
    ):
        silent = ~np.isfinite(values)
        ax.scatter(lon[silent], lat[silent], s=size, facecolors="none", edgecolors="#a9b3bd", linewidths=0.7)
        order = np.argsort(np.abs(values[~silent] - np.median(values[~silent]))) if (~silent).any() else []
        dots = ax.scatter(
            lon[~silent][order],
            lat[~silent][order],
            c=values[~silent][order],
            s=size,
            cmap=colours,
            vmin=low,
            vmax=high,
            edgecolors=GREY,
            linewidths=0.25,
        )
        ax.set_title(name, loc="left", fontsize=9.5, color=INK)
        ax.set_aspect(stretch, adjustable="box")
        ax.margins(0.06)
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set_color(RULE)
        bar = figure.colorbar(dots, ax=ax, orientation="horizontal", shrink=0.75, aspect=32, pad=0.03)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.ax.tick_params(labelsize=8, length=0, labelcolor=INK)
        bar.ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        bar.set_label(label, fontsize=8.5, color=GREY)
    _scale_bar(figure.axes[0], lon, lat)
    return figure


def save(figure: Figure, path: Path, *, facts: Mapping[str, str] | None = None) -> None:
    """Writes a PNG with these facts in its text chunks."""
    there = set(get_font_names())
    fonts = [name for name in FONTS if name in there]
    for text in figure.findobj(Text):
        text.set_fontfamily(fonts)  # pyright: ignore[reportAttributeAccessIssue]
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A stop's name in a script that no font here has is drawn as boxes; that is no reason to fail.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, format="png", dpi=DPI, facecolor="white", metadata=dict(facts or {}))


def telling(forecast: Forecast, most: int = 6) -> Forecast:
    """At most this many series: the network first, then corridors, then spots, the largest of each first.

    A selection that a person made (up to twelve series) is kept as it is.
    """
    if forecast.n_series <= max(most, _MOST_FANS):
        return forecast
    with np.errstate(invalid="ignore"):
        known = np.isfinite(forecast.history)
        size = np.where(known, forecast.history, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    rank = {"network": 0, "corridor": 1, "spot": 2}
    levels = [rank.get(level, 3) for level in forecast.series["level"]]
    order = sorted(range(forecast.n_series), key=lambda row: (levels[row], -size[row]))
    return forecast.take(order[:most])


class _Course:
    """The time axis of a fan: positions, breaks and labels, the same for all series of a forecast."""

    def __init__(self, forecast: Forecast, tail: int, most_ticks: int) -> None:
        self.forecast = forecast
        self.tail = min(tail, len(forecast.history_time))
        time = np.concatenate([forecast.history_time[len(forecast.history_time) - self.tail :], forecast.time])
        broken = np.diff(time) != np.timedelta64(forecast.interval_s, "s")
        # A break takes the room of one step, so that it can be seen and nothing is stretched.
        start = np.arange(len(time)) + np.concatenate([[0], np.cumsum(broken)])
        self.now = float(start[self.tail - 1] + 1) if self.tail else float(start[0])
        self.end = float(start[-1] + 1)
        self.first = float(start[0])
        middle = start + 0.5  # a value stands for its whole step
        self.past, self.ahead = middle[: self.tail], middle[self.tail :]
        self.ticks, self.labels = _ticks(moments(forecast, time), start, most_ticks)

    def ahead_edges(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions and values with each unbroken run drawn out to the ends of its steps, NaN between runs."""
        x, y = [], []
        for run in np.split(np.arange(len(self.ahead)), np.flatnonzero(np.diff(self.ahead) > 1) + 1):
            x += [self.ahead[run[0]] - 0.5, *self.ahead[run], self.ahead[run[-1]] + 0.5, np.nan]
            y += [values[run[0]], *values[run], values[run[-1]], np.nan]
        return np.asarray(x[:-1]), np.asarray(y[:-1])


def _draw_fan(ax: Axes, course: _Course, row: int) -> None:
    forecast = course.forecast
    history = forecast.history[row, forecast.history.shape[1] - course.tail :]
    x_past, y_past = _broken(course.past, history)
    ax.plot(x_past, y_past, color=INK, lw=1.3, label="measured", zorder=4)
    drawn = [history]
    for colour, coverage in zip(BANDS, COVERAGES, strict=True):
        ends = [_between(forecast, row, (1 + side * coverage) / 2) for side in (-1, 1)]
        if any(end is None for end in ends):
            continue
        low, high = (course.ahead_edges(end) for end in ends if end is not None)
        ax.fill_between(low[0], low[1], high[1], color=colour, lw=0, zorder=2, label=f"{100 * coverage:g} % band")
        drawn += [low[1], high[1]]
    x, median = course.ahead_edges(forecast.median[row])
    ax.plot(x, median, color=MEDIAN, lw=2, label="median", zorder=5, solid_capstyle="butt")
    drawn.append(median)
    if forecast.observed is not None and np.isfinite(forecast.observed[row]).any():
        x_seen, seen = _broken(course.ahead, forecast.observed[row])
        mark = {"marker": "o", "ms": 3.2, "mew": 0} if forecast.horizon <= 48 else {}
        ax.plot(x_seen, seen, color=OBSERVED, lw=1.1, label="what happened", zorder=6, **mark)
        drawn.append(seen)
    if not np.isfinite(forecast.median[row]).any():
        ax.text(0.98, 0.5, "no forecast", transform=ax.transAxes, ha="right", color=GREY, fontsize=9)
    ax.axvline(course.now, color=GREY, lw=0.9, ls=(0, (3, 2)), zorder=3)
    ax.annotate(
        "now ",
        (course.now, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, -9),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=GREY,
    )
    ax.set_xlim(course.first, course.end)
    amount = forecast.series.row(row, named=True).get("aggregate") == "sum"
    ax.set_ylim(*_limits(np.concatenate(drawn), zero=amount))
    ax.set_xticks(course.ticks, course.labels)
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.grid(axis="y", color=RULE, lw=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=8.5, labelcolor=INK)
    ax.tick_params(axis="x", length=3, color=GREY)
    for side in ("left", "top", "right"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(GREY)


def _sheet(
    *, size: tuple[float, float], title: str, subtitle: str, footnote: str, legend: bool = True
) -> tuple[Figure, tuple[float, float]]:
    """A figure with its texts, and where a legend goes; ``size`` in inches is what is left for the axes."""
    head, foot = 0.84, 0.62 if legend else 0.36
    width, height = size[0], size[1] + head + foot
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", rect=(0.008, foot / height, 0.984, 1 - (head + foot) / height), w_pad=0.1)
    left = 0.14 / width
    figure.text(left, 1 - 0.17 / height, _shortened(title, int(width * 9)), size=14, weight="bold", color=INK, va="top")
    figure.text(left, 1 - 0.46 / height, clean(subtitle), size=9.5, color=GREY, va="top")
    figure.text(left, 0.1 / height, clean(footnote), size=7, color=GREY, va="bottom")
    return figure, (left, 0.33 / height)


def _between(forecast: Forecast, row: int, level: float) -> np.ndarray | None:
    """A quantile [H] that may lie between two of the levels; None where it lies outside all of them."""
    given = np.asarray(forecast.levels)
    above = int(np.searchsorted(given, level - 1e-6))
    if above == len(given) or (above == 0 and given[0] > level + 1e-6):
        return None
    below = max(above - 1, 0)
    share = 1.0 if above == below else float(np.clip((level - given[below]) / (given[above] - given[below]), 0, 1))
    low, high = forecast.quantiles[row, :, below], forecast.quantiles[row, :, above]
    return low + share * (high - low)


def _broken(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same line with a NaN wherever the axis has a break."""
    at = np.flatnonzero(np.diff(x) > 1) + 1
    return np.insert(x, at, np.nan), np.insert(y.astype(np.float64), at, np.nan)


def _ticks(local: Sequence[datetime], start: np.ndarray, most: int) -> tuple[list[float], list[str]]:
    """Round local times, at most so many; each new day is named below its first label."""
    minute = [moment.toordinal() * 1440 + moment.hour * 60 + moment.minute for moment in local]
    days = (2880, 4320, 10080, 20160, 43200)
    chosen: list[int] = []
    for step in (*_TICK_STEPS_MIN, *days):
        chosen = [i for i, at in enumerate(minute) if at % step == 0]
        if len(chosen) <= most:
            break
    if not 2 <= len(chosen) <= most:
        chosen = list(range(0, len(local), -(-len(local) // most)))
    # Beyond a break the next round time may stand too near for two labels.
    room = (start[-1] - start[0]) / (1.6 * most)
    chosen = [
        at for at, last in zip(chosen, [None, *chosen], strict=False) if last is None or start[at] - start[last] >= room
    ]
    labels, day = [], None
    for i in chosen:
        named = local[i].date() != day
        day = local[i].date()
        labels.append(f"{local[i]:%H:%M}" + (f"\n{local[i]:%a} {local[i].day} {local[i]:%b}" if named else ""))
    return [float(start[i]) for i in chosen], labels


def _limits(values: np.ndarray, *, zero: bool) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    room = 0.07 * (high - low) or max(abs(high) * 0.1, 1.0)
    # An amount without its zero exaggerates; a speed that moves between 90 and 100 would be flat with it.
    if low >= 0 and (zero or low < 0.25 * high):
        return 0.0, high + room
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _robust(values: np.ndarray, *, zero: bool = False) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(known, [2, 98]))
    low = 0.0 if zero else low
    return (low, high) if high > low else (low, low + 1)


def _placed(forecast: Forecast) -> np.ndarray:
    series = forecast.series
    if not {"lon", "lat"} <= set(series.columns):
        rows = np.array([], dtype=np.int64)
    else:
        there = (series["level"] == "spot") & series["lon"].is_not_null() & series["lat"].is_not_null()
        rows = np.flatnonzero(there.to_numpy())
    if not len(rows):
        raise UsageError(
            "a map needs spots with a place, and none of these series has one",
            where=forecast.city,
            next_step="draw a fan instead, or give the city's source a file of locations",
        )
    return rows


def _scale_bar(ax: Axes, lon: np.ndarray, lat: np.ndarray) -> None:
    """A bar of a round number of kilometres, about a quarter of the city wide."""
    km_per_degree = 111.32 * np.cos(np.radians(np.mean(lat)))
    wide = max(float(np.ptp(lon)) * km_per_degree, 1e-3) / 4
    power = 10 ** np.floor(np.log10(wide))
    length = max(k * power for k in (1, 2, 5) if k * power <= wide)
    ax.add_artist(
        AnchoredSizeBar(
            ax.transData,
            length / km_per_degree,
            f"{length:g} km",
            "lower left",
            pad=0.5,
            frameon=False,
            size_vertical=0,
            color=GREY,
            fontproperties=FontProperties(size=8),
        )
    )


def _span(seconds: int) -> str:
    """``5 min``, ``1 h``, ``1 h 30 min``, ``2 d``."""
    parts = []
    for name, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if count := seconds // size:
            parts.append(f"{count} {name}")
            seconds -= count * size
    return " ".join(parts)


def _shortened(text: str, most: int) -> str:
    text = clean(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
