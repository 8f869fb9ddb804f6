"""Tokens as tensors: the network's keyword arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mtgpt.tokens.dense import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from mtgpt.tokens.dense import Scale, Window
    from mtgpt.tokens.gaps import Gaps

_NAMES = ("features", "calendar", "anchors", "log_error", "spread")


def gap_inputs(patches: Sequence[Gaps]) -> dict[str, Tensor]:
    """The keyword arguments that ask for filling, from K context patches, oldest first."""
    return {
        f"gap_{name}": torch.from_numpy(np.stack([getattr(g, name) for g in patches], 1))
        for name in ("anchors", "log_error", "spread")
    }


def network_inputs(views: Sequence[Window], kinds: NDArray[np.int64]) -> tuple[dict[str, Tensor], list[Scale]]:
    """Encodes K context patches of the same cuts and series.

    Args:
        views: K windows, oldest first, each of B cuts and N series.
        kinds: [N, 3] ids of mode, variable and level.

    Returns:
        Keyword arguments of :meth:`mtgpt.model.network.PatchNetwork.forward`, and the state that decodes each patch.
    """
    rendered = [encode(view) for view in views]
    inputs = {name: torch.from_numpy(np.stack([getattr(t, name) for t, _ in rendered], 1)) for name in _NAMES}
    inputs["kinds"] = torch.from_numpy(kinds)[None].expand(len(views[0].z), -1, -1)
    return inputs, [state for _, state in rendered]
