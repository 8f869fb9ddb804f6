"""Chronos and TimesFM as rivals, where their weights lie on this machine.

They are asked univariately, as their authors benchmark them: each series by itself, its last steps as context. Weights
are never downloaded: ``MTGPT_CHRONOS`` and ``MTGPT_TIMESFM`` name local folders, and without them a table says that
they were not measured. Shapes: B cuts, S series, P steps, L context steps.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mtgpt.errors import ModelError
from mtgpt.eval.baselines import carried_forward

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from mtgpt.eval.baselines import Baseline
    from mtgpt.panel.panel import Panel
    from mtgpt.settings import Settings

CONTEXT = 512
_SERIES_AT_ONCE = 256


class Univariate:
    """A foundation model asked series by series.

    Args:
        panel: Of which cuts are asked.
        patch: P.
        predict: Context [n, L] to medians [n, P].
    """

    def __init__(self, panel: Panel, patch: int, predict: Callable[[NDArray[np.float32], int], NDArray[Any]]) -> None:
        self._values = carried_forward(np.asarray(panel.values, np.float32))
        self._patch, self._predict = patch, predict

    def __call__(self, cuts: NDArray[np.integer]) -> NDArray[np.floating]:
        """See :class:`mtgpt.eval.baselines.Baseline`."""
        out = []
        for cut in cuts:
            context = self._values[max(0, cut + 1 - CONTEXT) : cut + 1].T  # [S, L]
            parts = [
                self._predict(np.ascontiguousarray(context[at : at + _SERIES_AT_ONCE]), self._patch)
                for at in range(0, len(context), _SERIES_AT_ONCE)
            ]
            out.append(np.concatenate(parts))
        return np.stack(out).astype(np.float32)


def foundation(name: str, panel: Panel, *, patch: int, settings: Settings) -> Baseline | None:
    """The rival of that name.

    Args:
        name: ``Chronos`` or ``TimesFM``.
        panel: The target.
        patch: P.
        settings: Say where weights are.

    Returns:
        None where no weights are named.

    Raises:
        ModelError: Weights are named but cannot be loaded, or the package is missing.
    """
    folder = {"Chronos": settings.chronos, "TimesFM": settings.timesfm}[name]
    if folder is None:
        return None
    package = {"Chronos": "chronos", "TimesFM": "timesfm"}[name]
    if find_spec(package) is None:
        raise ModelError(
            f"the package of {name} is not installed",
            where=folder,
            expected=package,
            next_step=f"pip install {'chronos-forecasting' if name == 'Chronos' else 'timesfm'}",
        )
    if not folder.is_dir():
        raise ModelError(f"there are no weights of {name}", where=folder, expected="a folder with a checkpoint")
    predict = _chronos(folder) if name == "Chronos" else _timesfm(folder)
    return Univariate(panel, patch, predict)


def _chronos(folder: Path) -> Callable[[NDArray[np.float32], int], NDArray[Any]]:
    from chronos import BaseChronosPipeline  # noqa: PLC0415 # pyright: ignore[reportMissingImports] - only where it is asked for

    pipeline = BaseChronosPipeline.from_pretrained(str(folder), device_map="cpu", local_files_only=True)

    def predict(context: NDArray[np.float32], steps: int) -> NDArray[Any]:
        quantiles, _ = pipeline.predict_quantiles(
            torch.from_numpy(context), prediction_length=steps, quantile_levels=[0.5]
        )
        return quantiles[..., 0].numpy()

    return predict


def _timesfm(folder: Path) -> Callable[[NDArray[np.float32], int], NDArray[Any]]:
    import timesfm  # noqa: PLC0415 # pyright: ignore[reportMissingImports] - only where it is asked for

    model = timesfm.TimesFM_2p5_200M_torch.from_pretrained(str(folder), local_files_only=True)
    model.compile(timesfm.ForecastConfig(max_context=CONTEXT, max_horizon=64, normalize_inputs=True))

    def predict(context: NDArray[np.float32], steps: int) -> NDArray[Any]:
        points, _ = model.forecast(horizon=steps, inputs=list(context))
        return np.asarray(points)

    return predict
