"""Accuracy, coverage, coherence, causality and speed of forecasts, on published data by the full path."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.bench.row import Bench, Context, Row, at_most, between, for_comparison

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mtgpt.eval.score import Evaluation
    from mtgpt.panel.panel import Panel

_KMH_PER_MPH = 1.609344
_MINUTES = 20
_SEEDS = (0, 1, 2)


def _trained(
    context: Context, city: str, recipe: str, seeds: tuple[int, ...] = (0,)
) -> tuple[Panel, list[Any], float, float]:
    """From the published files to a model per seed: panel, models, seconds of ingest and panel, of one training."""
    from mtgpt.ingest.manifest import load_manifest
    from mtgpt.lake.intake import ingest_city
    from mtgpt.lake.lake import Lake
    from mtgpt.model.mtgpt import MTGPT
    from mtgpt.panel.build import build_panel
    from mtgpt.settings import Settings
    from mtgpt.train.cities import train_cities

    here = Settings(home=context.scratch, real_data=context.real_data)
    manifest = load_manifest(city, settings=here)
    started = time.monotonic()
    lake = Lake.open(here.lake)
    ingest_city(manifest, lake, settings=here)
    panel = build_panel(manifest, lake, folder=here.panels / city)
    prepared = time.monotonic() - started
    shown = [0.0]

    def progress(step: int, steps: int, loss: float) -> None:
        if time.monotonic() - shown[0] > 20:
            shown[0] = time.monotonic()
            context.say(f"{city}: step {step} of {steps}, loss {loss:.4f}")

    runs = [
        train_cities(
            [city],
            settings=here,
            recipe_name=recipe,
            name=f"{city}-{recipe}-{seed}",
            changes={"seed": seed},
            progress=progress,
        )
        for seed in seeds
    ]
    models = [MTGPT.from_pretrained(run.folder) for run in runs]
    return panel, models, prepared, max(run.seconds for run in runs)


def _compared(name: str, result: Evaluation, factor: float, unit: str) -> Iterator[Row]:
    for rival in result.sums:
        score = result.score(rival)
        steps = "/".join(f"{(score.steps['mae'][k] or 0) * factor:.2f}" for k in (2, 5, 8, 11))
        rmse = (score.averaged["rmse"] or 0) * factor
        label = rival.replace(" ", "_").replace("-", "").lower()
        yield for_comparison(
            f"{name}_{label}", (score.averaged["mae"] or 0) * factor, unit, f"steps 3/6/9/12 {steps}, rmse {rmse:.2f}"
        )


def pemsd7(context: Context) -> Iterator[Row]:
    """PEMSD7(M): 60/20/20 over windows, 12 → 12 steps, all test windows, all detectors, in mph."""
    import numpy as np

    from mtgpt.eval.score import OURS, evaluate
    from mtgpt.eval.stid import train_stid
    from mtgpt.model.mtgpt import Forecaster
    from mtgpt.train.data import split

    panel, models, prepared, seconds = _trained(context, "pems07m", "single_city", _SEEDS)
    model = models[0]
    context.say("pems07m: a STID-like net, for comparison")
    stid = train_stid(panel, patch=12, cuts=split(panel.n_step).train, steps=2000)
    result = evaluate(panel, model, extra={"STID-like": stid})
    ours = result.score(OURS)
    mph = 1 / _KMH_PER_MPH
    others = [evaluate(panel, other).score(OURS) for other in models[1:]]
    mae = np.asarray([(one.averaged["mae"] or np.nan) * mph for one in (ours, *others)])
    detail = (
        f"mean of {len(mae)} seeds, {mae.min():.3f} to {mae.max():.3f}; {result.windows} test windows; "
        f"files to panel {prepared:.0f} s"
    )
    yield at_most("pemsd7_mae", float(mae.mean()), 2.50, "mph", detail)
    yield at_most("pemsd7_train_minutes", seconds / 60, _MINUTES, "min", "recipe single_city, slowest seed")
    yield between("pemsd7_cover80", (ours.averaged["coverage_80"] or np.nan) * 100, 77, 83, "%")
    yield for_comparison("pemsd7_cover95", (ours.averaged["coverage_95"] or np.nan) * 100, "%")
    yield from _compared("pemsd7", result, mph, "mph")
    plain = evaluate(panel, model, method="none").score(OURS)
    yield for_comparison(
        "pemsd7_unreconciled", (plain.averaged["mae"] or np.nan) * mph, "mph", "levels not made coherent"
    )

    forecaster = Forecaster(model, panel)
    moments = panel.time[np.linspace(split(panel.n_step).test[0], panel.n_step - 13, 60).astype(int)]
    yield at_most("coherence", max(_incoherence(forecaster, at) for at in moments), 1e-4, "", "largest relative gap")
    for at in moments[:5]:
        forecaster.forecast(at)
    times = []
    for at in moments:
        started = time.perf_counter()
        forecaster.forecast(at)
        times.append((time.perf_counter() - started) * 1000)
    yield at_most("forecast_p50_ms", float(np.median(times)), 60, "ms", f"{panel.n_series} series, 12 steps, warm")
    yield at_most("poisoned_future", _poisoned(model, panel, moments[::20]), 0, "", "forecasts that changed, of 6")


def _incoherence(forecaster: Any, at: Any) -> float:
    import numpy as np

    panel = forecaster.panel
    median = forecaster.forecast(at).median.astype(np.float64)
    parts = panel.aggregation.astype(np.float64) @ median[: panel.n_spot]
    return float(np.max(np.abs(median[panel.n_spot :] - parts) / np.maximum(np.abs(parts), 1e-9)))


def _poisoned(model: Any, panel: Panel, moments: Any) -> float:
    import numpy as np

    changed = 0
    for at in moments:
        values = np.array(panel.values)
        values[panel.steps_until(at) :] = 1e9
        poisoned = replace(panel, values=values)
        for horizon in (12, 36):
            clean, dirty = model.forecast(panel, at, horizon), model.forecast(poisoned, at, horizon)
            changed += not np.array_equal(clean.quantiles, dirty.quantiles)
    return float(changed)


def ev_sao_paulo(context: Context) -> Iterator[Row]:
    """EV charging in São Paulo: a third of the values are true zeros."""
    import numpy as np

    from mtgpt.eval.score import OURS, evaluate

    panel, (model,), _, seconds = _trained(context, "ev_sao_paulo", "single_city")
    result = evaluate(panel, model)
    energy = ((panel.series["level"] == "spot") & (panel.series["variable"] == "energy")).to_numpy()
    ours = result.sums[OURS].score(energy)
    zeros = float((panel.values[:, energy] == 0).mean())
    coverage = (ours.averaged["coverage_80"] or np.nan) * 100
    detail = f"energy, {zeros:.0%} zeros, {result.windows} windows, {seconds / 60:.1f} min of training"
    yield between("ev_sao_paulo_cover80", coverage, 75, 85, "%", detail)
    for rival, sums in result.sums.items():
        label = rival.replace(" ", "_").replace("-", "").lower()
        yield for_comparison(f"ev_sao_paulo_{label}", sums.score(energy).averaged["mae"] or np.nan, "kWh", "mae")


BENCHES = (
    Bench(
        rows=(
            "pemsd7_mae", "pemsd7_train_minutes", "pemsd7_cover80", "coherence", "forecast_p50_ms", "poisoned_future",
        ),
        run=pemsd7,
        needs=("road_pems07m",),
    ),
    Bench(rows=("ev_sao_paulo_cover80",), run=ev_sao_paulo, needs=("ev_charging",)),
)  # fmt: skip
