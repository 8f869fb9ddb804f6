r"""Makes parts add up to wholes: forecasts of spots, corridors and the network that agree with each other.

The medians ŷ of all series are moved by the least squares step of Wickramasuriya, Athanasopoulos & Hyndman (2019),
"Optimal forecast reconciliation for hierarchical and grouped time series through trace minimization", in its
constraint form ỹ = ŷ − W Cᵀ (C W Cᵀ)⁻¹ C ŷ with C = [−A, I]: only a system of the size of the aggregates is solved,
never one of the size of the spots. W is diagonal (``wls``) or the shrunk covariance of past errors (``mint``, with the
intensity of Schäfer & Strimmer 2005), which is applied through the residual matrix and never formed.

Shapes: S series = P spots, then G aggregates; H steps; Q quantile levels; N past errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
from scipy import sparse
from scipy.special import ndtri

from mtgpt.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Method = Literal["wls", "mint", "bottom_up", "none"]

# The panel has no value for an aggregate with less than half of its weight observed; neither has a forecast.
_LEAST_WEIGHT = 0.5
_LEAST_PRESENCE = 1e-3


def reconcile(
    quantiles: np.ndarray,
    levels: Sequence[float],
    aggregation: sparse.csr_array,
    *,
    method: Method = "wls",
    variance: np.ndarray | None = None,
    residuals: np.ndarray | None = None,
    shrinkage: float | None = None,
    minimum: float | np.ndarray | None = 0.0,
    presence: np.ndarray | None = None,
) -> np.ndarray:
    """Moves the medians of all series until aggregates equal the aggregation of their spots.

    Every other quantile moves as its median does, so each series keeps the shape of its band; what would fall below
    ``minimum`` is cut there, and the aggregates' medians are then taken from the spots once more, in float64, so
    that they agree in the end whatever was cut.

    A spot without a forecast (NaN) is left out the way the panel leaves out a missing value: the weights of the
    remaining spots are scaled up to the aggregate's full weight, step by step, and an aggregate with less than half
    of its weight forecast is NaN. An aggregate that has spots but no forecast of its own is added up from them, its
    band from their bands as if they moved together (the wide side of the truth).

    Args:
        quantiles: [S, H, Q] float32 or float64, non-decreasing along Q, in physical units.
        levels: Q quantile levels with 0.5 among them.
        aggregation: [G, P], non-negative: aggregates = aggregation @ spots.
        method: ``wls`` weighs by error variances, ``mint`` by their shrunk covariance, ``bottom_up`` trusts the spots
            alone, ``none`` changes nothing.
        variance: [S, H] error variance per series and step. Where absent or NaN it is read from the forecast's own
            band, as if that were Gaussian.
        residuals: [N, S] past errors in the same units (NaN where unknown), for ``mint``. With ``variance`` given too,
            they supply the correlations only.
        shrinkage: Intensity in [0, 1] when known already; see :func:`shrinkage_intensity`, which costs N² S.
        minimum: Least possible value, one for all or one per series [S]; None (or -inf) where there is none.
        presence: [P, H] in [0, 1], how often each spot reports at that step; None for always. A spot counts in the
            sums by its weight times its presence, scaled up to the full weight: as in the panel on average, which
            leaves out who does not report.

    Returns:
        [S, H, Q] in the dtype of ``quantiles``; the input itself for ``none``.

    Raises:
        UsageError: The method is unknown, or ``mint`` lacks residuals.
        ModelError: Shapes do not fit together.
    """
    if method not in get_args(Method):
        raise UsageError("unknown reconciliation method", got=method, expected=", ".join(get_args(Method)))
    if method == "mint" and residuals is None:
        raise UsageError("mint needs past errors", expected="residuals [N, S]", next_step="use wls, which does not")
    G, P = cast("tuple[int, int]", aggregation.shape)
    middle = _check(quantiles, levels, aggregation, variance, residuals)
    if method == "none" or G == 0:
        return quantiles
    base = quantiles[:, :, middle].astype(np.float64)  # S, H
    parts = _Parts.of(aggregation, np.isfinite(base[:P]), presence)

    spots = base[:P]
    if method != "bottom_up":
        amiss = base[P:] - parts.add_up(spots)  # G, H
        # What rounding alone leaves is no disagreement; so reconciling twice changes nothing the second time.
        noise = 4 * np.finfo(quantiles.dtype).eps * (parts.add_up(np.abs(spots)) + np.abs(base[P:]))
        amiss = np.where(np.abs(amiss) <= noise, 0.0, amiss)
        if np.nan_to_num(amiss).any():
            if method == "wls" or residuals is None:
                past, intensity = None, 1.0
            else:
                past, intensity = _standardised(residuals), shrinkage
                intensity = shrinkage_intensity(residuals) if intensity is None else intensity
                variance = _second_moment(residuals, base.shape) if variance is None else variance
            deviation = np.sqrt(_filled(variance, quantiles, levels, middle))
            spots = spots + _shift(amiss, parts, deviation, past, intensity)

    floor = np.broadcast_to(np.asarray(-np.inf if minimum is None else minimum, dtype=np.float64), base.shape[:1])[
        :, None
    ]
    medians = np.empty_like(quantiles, shape=base.shape)
    # Rounded to the output's type before adding up: otherwise rounding alone would break the sums.
    medians[:P] = np.maximum(spots, floor[:P])
    medians[P:] = parts.add_up(medians[:P].astype(np.float64))
    return _carried(quantiles, medians, middle, floor, parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The aggregation, with the weights of missing spots handed to those that remain, step by step."""

    A: sparse.csr_array  # G, P float64
    share: np.ndarray  # P, H in [0, 1]: 0 where there is no forecast, else how often the spot reports
    scale: np.ndarray  # G, H: full weight / remaining weight, NaN where under half of it is forecast

    @classmethod
    def of(cls, aggregation: sparse.csr_array, alive: np.ndarray, presence: np.ndarray | None) -> _Parts:
        A = sparse.csr_array(aggregation, dtype=np.float64)
        share = alive.astype(np.float64)
        if presence is not None:
            # Where nobody ever reports, all count the same rather than nobody.
            share *= np.maximum(presence, _LEAST_PRESENCE)
        if (share == 1).all():
            return cls(A=A, share=share, scale=np.ones((len(A.indptr) - 1, alive.shape[1])))
        full = np.asarray(A.sum(axis=1)).reshape(-1, 1)
        enough = A @ alive.astype(np.float64) >= _LEAST_WEIGHT * full - 1e-12
        left = A @ share
        return cls(
            A=A, share=share, scale=np.divide(full, left, out=np.full_like(left, np.nan), where=enough & (left > 0))
        )

    def add_up(self, spots: np.ndarray) -> np.ndarray:
        """[P, H] → [G, H]."""
        return self.scale * (self.A @ (self.share * np.where(self.share > 0, spots, 0.0)))

    def add_up_at(self, step: int, spots: np.ndarray) -> np.ndarray:
        """[P, Q] at one step → [G, Q]."""
        share = self.share[:, step, None]
        return self.scale[:, step, None] * (self.A @ (share * np.where(share > 0, spots, 0.0)))


def _shift(
    amiss: np.ndarray, parts: _Parts, deviation: np.ndarray, past: np.ndarray | None, intensity: float
) -> np.ndarray:
    """W A'(C W C')⁻¹ e: how far each spot moves, [P, H].

    Args:
        amiss: e [G, H], aggregates less what their spots add up to; NaN where there is no aggregate to agree with.
        parts: The aggregation.
        deviation: d [S, H], the square root of W's diagonal.
        past: Z [N, S], past errors over their deviations, or None for a diagonal W.
        intensity: λ in W = diag(d) (λ I + (1 − λ) Z'Z / N) diag(d).
    """
    A, share, (P, H), G = parts.A, parts.share, parts.share.shape, amiss.shape[0]
    scale, bound = np.nan_to_num(parts.scale), np.isfinite(amiss)
    d = np.where(np.concatenate([share > 0, bound]), deviation, 0.0)
    e = np.where(bound, amiss, 0.0)

    # A diag(w_h) A' for all steps in one sparse product: the rows of all steps are stacked.
    w = (share * d[:P]) ** 2
    stacked = sparse.csr_array(
        (
            (A.data[None, :] * w.T[:, A.indices]).ravel(),
            np.tile(A.indices, H),
            np.concatenate([[0], (A.indptr[None, 1:] + A.nnz * np.arange(H)[:, None]).ravel()]),
        ),
        shape=(H * G, P),
    )
    K = (stacked @ A.T).toarray().reshape(H, G, G) * (scale.T[:, :, None] * scale.T[:, None, :])
    K[:, np.arange(G), np.arange(G)] += d[P:].T ** 2
    if past is not None:
        K *= intensity
        steady = all((x == x[:, :1]).all() for x in (d, scale, share))
        for step in range(1 if steady else H):
            errors = past * d[None, :, step]
            F = errors[:, P:] - (A @ (share[:, step] * errors[:, :P]).T).T * scale[None, :, step]  # N, G
            K[slice(None) if steady else step] += (1 - intensity) / len(past) * (F.T @ F)

    # Speeds and flows stand in one system: unit diagonals keep it well conditioned, and aggregates that say the same
    # thing twice (one corridor that is the whole network) keep it singular but for the ridge.
    size = np.sqrt(K[:, np.arange(G), np.arange(G)])
    unit = np.divide(1.0, size, out=np.zeros_like(size), where=(size > 0) & bound.T)  # H, G
    K *= unit[:, :, None] * unit[:, None, :]
    K[:, np.arange(G), np.arange(G)] += np.where(unit > 0, 1e-9, 1.0)
    x = (unit * np.linalg.solve(K, (unit * e.T)[:, :, None])[:, :, 0]).T  # G, H

    pull = share * (A.T @ (scale * x))  # P, H
    if past is None:
        return d[:P] ** 2 * pull
    signed = d * np.concatenate([-pull, x])  # diag(d) C'x, S, H
    return -d[:P] * (intensity * signed[:P] + (1 - intensity) / len(past) * (past[:, :P].T @ (past @ signed)))


def _carried(quantiles: np.ndarray, medians: np.ndarray, middle: int, floor: np.ndarray, parts: _Parts) -> np.ndarray:
    """All quantiles moved with their medians [S, H], nothing below the floor [S, 1], nothing crossing."""
    P = len(parts.share)
    base = quantiles[:, :, middle]
    out = quantiles + (medians - base)[:, :, None]
    unforecast = np.isnan(base[P:]) & np.isfinite(medians[P:])
    for step in np.flatnonzero(unforecast.any(axis=0)).tolist():
        bands = parts.add_up_at(step, quantiles[:P, step].astype(np.float64) - base[:P, step, None])
        rows = np.flatnonzero(unforecast[:, step])
        out[P + rows, step] = bands[rows] + medians[P + rows, step, None]
    # A floor is meant for a spot; an aggregate of negative parts may lie below it, and then its median stands.
    np.maximum(out, np.where(np.isnan(medians), floor, np.minimum(floor, medians))[:, :, None], out=out)
    # Rounding after the move may put a neighbour of the median across it.
    settled = medians[:, :, None]
    np.minimum(out[:, :, :middle], settled, out=out[:, :, :middle])
    np.maximum(out[:, :, middle + 1 :], settled, out=out[:, :, middle + 1 :])
    out[:, :, middle] = medians
    return out


def shrinkage_intensity(residuals: np.ndarray) -> float:
    """Schäfer & Strimmer's λ in [0, 1] for the correlations of past errors, without forming the S × S matrix.

    Args:
        residuals: [N, S], NaN where unknown (taken as no error).

    Returns:
        0 trusts the correlations as they are, 1 not at all. 1 where there are fewer than two rows.
    """
    z = _standardised(residuals)
    N = len(z)
    if N < 2:
        return 1.0
    squares = z**2
    used = int((squares.sum(axis=0) > 0).sum())
    # ‖Z'Z‖² = ‖ZZ'‖²: the smaller of the two is formed.
    gram = z @ z.T if z.shape[1] > N else z.T @ z
    overlap = float(np.sum(gram * gram))
    spread = float(np.sum(squares.sum(axis=1) ** 2)) - overlap / N
    on_diagonal = float(np.sum(squares**2)) - used * N
    correlation = overlap / N**2 - used
    if correlation <= 0:
        return 1.0
    return float(np.clip((spread - on_diagonal) / (N * (N - 1)) / correlation, 0.0, 1.0))


def _standardised(residuals: np.ndarray) -> np.ndarray:
    known = np.nan_to_num(residuals.astype(np.float64))
    size = np.sqrt((known**2).mean(axis=0)) if len(known) else np.zeros(known.shape[1])
    return np.divide(known, size, out=np.zeros_like(known), where=size > 0)


def _second_moment(residuals: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    known = np.isfinite(residuals)
    count = known.sum(axis=0)
    total = np.where(known, residuals.astype(np.float64), 0.0) ** 2
    moment = np.divide(total.sum(axis=0), count, out=np.full(residuals.shape[1], np.nan), where=count > 0)
    return np.repeat(moment[:, None], shape[1], axis=1)


def _filled(variance: np.ndarray | None, quantiles: np.ndarray, levels: Sequence[float], middle: int) -> np.ndarray:
    """The variance [S, H], read from the band of a Gaussian where it is not known; 0 for a series not forecast."""
    given = np.full(quantiles.shape[:2], np.nan) if variance is None else variance.astype(np.float64)
    unknown = ~np.isfinite(given) | (given < 0)
    if unknown.any() and len(levels) > 1:
        # The ends of the 80 % band or what is nearest: further out a head trained on few tails is less sure.
        low, high = (int(np.abs(np.asarray(levels) - end).argmin()) for end in (0.1, 0.9))
        width = (quantiles[:, :, high] - quantiles[:, :, low]).astype(np.float64)
        given = np.where(unknown, (width / (ndtri(levels[high]) - ndtri(levels[low]))) ** 2, given)
    lost = ~np.isfinite(given) | (given < 0)
    if (lost & np.isfinite(quantiles[:, :, middle])).any():
        raise UsageError(
            "reconciliation knows no error variance of some series",
            expected="variance [S, H], past errors, or quantile levels on both sides of the median",
            next_step="use bottom_up, which needs none",
        )
    return np.where(lost, 0.0, given)


def _check(
    quantiles: np.ndarray,
    levels: Sequence[float],
    aggregation: sparse.csr_array,
    variance: np.ndarray | None,
    residuals: np.ndarray | None,
) -> int:
    """Collects what does not fit, raises once; returns the position of the median."""
    S = quantiles.shape[0]
    faults = []
    if quantiles.ndim != 3 or quantiles.shape[-1] != len(levels):
        faults.append(f"quantiles have shape {quantiles.shape} for {len(levels)} levels")
    if sum(cast("tuple[int, int]", aggregation.shape)) != S:
        faults.append(f"the aggregation {aggregation.shape} does not belong to {S} series")
    if np.min(aggregation.data, initial=0.0) < 0:
        faults.append("the aggregation has negative weights")
    if variance is not None and variance.shape != quantiles.shape[:2]:
        faults.append(f"the variance has shape {variance.shape} where {quantiles.shape[:2]} is due")
    if residuals is not None and (residuals.ndim != 2 or residuals.shape[1] != S):
        faults.append(f"past errors have shape {residuals.shape} where (N, {S}) is due")
    near = np.abs(np.asarray(levels, dtype=np.float64) - 0.5)
    if not len(near) or near.min() > 1e-6:
        faults.append("the median is not among the levels")
    if faults:
        raise ModelError("the forecasts cannot be reconciled: " + "; ".join(faults))
    return int(near.argmin())
