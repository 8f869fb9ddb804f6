"""Units in which networks of one city learn: each series' own mean and standard deviation over what they may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesScale:
    """Location and scale of S series.

    Attributes:
        centre: [S] physical units.
        scale: [S] physical units, > 0.
    """

    centre: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, visible: NDArray[np.float32]) -> SeriesScale:
        """Of the visible values [T, S]; a series without any, or that never moves, has scale 1."""
        known = np.isfinite(visible)
        count = np.maximum(known.sum(axis=0), 1)
        centre = np.where(known, visible, 0).sum(axis=0, dtype=np.float64) / count
        spread = np.sqrt((np.where(known, visible - centre, 0) ** 2).sum(axis=0) / count)
        return cls(centre=centre.astype(np.float32), scale=np.where(spread > 0, spread, 1).astype(np.float32))

    def normal(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """[…, S, P] in units of each series; what is missing becomes 0."""
        return np.nan_to_num((values - self.centre[:, None]) / self.scale[:, None]).astype(np.float32)

    def physical(self, normal: NDArray[np.floating]) -> NDArray[np.float32]:
        """The way back."""
        return (normal * self.scale[:, None] + self.centre[:, None]).astype(np.float32)
