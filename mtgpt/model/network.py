"""MT-GPT's network: Qwen3 decoder layers over patches, plain causal attention.

Notable:

* a token is one patch of one series; time-major, within a patch ``[network][corridors][spots]``, so the aggregates
  are visible to every spot after them and RoPE's distance means nearness along the graph;
* every token forecasts its *next* patch as quantiles;
* the forecast is a gated mix of three anchors (last value and two seasonal expectations) that starts from how wrong
  each has recently been, plus a residual in units of the usual spread: right on a mode never seen, before any training;
* a second head fills the gaps of a token's own patch in the same way;
* no attention mask is ever passed: padding stands at the end, where causality alone hides it.

Shape legend: B sequences, K context patches, N series, L = K·N tokens, F features, C calendar features, P steps a
patch, Q quantiles, A anchors, D hidden size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer, Qwen3RMSNorm, Qwen3RotaryEmbedding

from mtgpt.model.config import MTGPTConfig
from mtgpt.tokens.covariates import ROOM as COVARIATES
from mtgpt.tokens.gaps import GAP_ANCHORS
from mtgpt.tokens.seasonal import ANCHORS
from mtgpt.tokens.vocabulary import ROOM

if TYPE_CHECKING:
    from torch import Tensor

_STEP_WIDTH = 16
_LEAST_UNIT = 0.05


class PatchNetwork(PreTrainedModel):
    """The network alone; :class:`mtgpt.model.mtgpt.MTGPT` adds forecasting of panels."""

    config_class = MTGPTConfig
    config: MTGPTConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Qwen3DecoderLayer"]  # noqa: RUF012 - declared so by transformers
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: MTGPTConfig) -> None:
        super().__init__(config)
        d, p, q = config.hidden_size, config.patch, len(config.quantile_levels)
        # Each is created once, in the order of the forward pass.
        self.spot_encoder = nn.Sequential(nn.Linear(config.feature_count, 2 * d), nn.SiLU(), nn.Linear(2 * d, d))
        self.calendar_encoder = nn.Linear(config.calendar_count, d)
        self.mode_embedding = nn.Embedding(ROOM, d)
        self.variable_embedding = nn.Embedding(ROOM, d)
        self.level_embedding = nn.Embedding(ROOM, d)
        self.layers = nn.ModuleList(Qwen3DecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.dropout = nn.Dropout(config.dropout)
        self.norm = Qwen3RMSNorm(d, eps=config.rms_norm_eps)
        self.rotary_emb = Qwen3RotaryEmbedding(config=config)
        self.forecast_head = nn.Linear(d, p * (q + len(ANCHORS)))
        # What a token knows of each of its own steps, then mixed step by step with how far the next values are.
        self.fill_head = nn.Linear(d, p * _STEP_WIDTH)
        self.fill_mixer = nn.Sequential(
            nn.Linear(_STEP_WIDTH + 2 * len(GAP_ANCHORS), 2 * _STEP_WIDTH),
            nn.SiLU(),
            nn.Linear(2 * _STEP_WIDTH, q + len(GAP_ANCHORS)),
        )
        # How far each quantile lies from the median, in units of what was learned; see mtgpt.train.calibrate.
        self.band_stretch: Tensor
        self.register_buffer("band_stretch", torch.ones(q))
        self._middle = list(config.quantile_levels).index(0.5)
        self.post_init()
        # Untrained, the forecast is the trusted mix of the anchors.
        for head in (self.forecast_head, self.fill_mixer[-1]):
            nn.init.zeros_(cast("Tensor", head.weight))
            nn.init.zeros_(cast("Tensor", head.bias))
        # A covariate that training never showed must mean nothing when a city brings it.
        nn.init.zeros_(self.calendar_encoder.weight[:, -2 * COVARIATES :])

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, Qwen3RMSNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, Qwen3RotaryEmbedding):
            # A model loaded from disk is created without memory first; its frequencies are no weights.
            fresh = Qwen3RotaryEmbedding(config=self.config)
            module.inv_freq = fresh.inv_freq
            module.original_inv_freq = fresh.original_inv_freq

    def forward(
        self,
        *,
        features: Tensor,
        calendar: Tensor,
        anchors: Tensor,
        log_error: Tensor,
        spread: Tensor,
        kinds: Tensor,
        gap_anchors: Tensor | None = None,
        gap_log_error: Tensor | None = None,
        gap_spread: Tensor | None = None,
    ) -> Tensor:
        """Forecasts the next patch of every token, and fills its own where anchors for that are given.

        Args:
            features: [B, K, N, F].
            calendar: [B, K, C].
            anchors: [B, K, N, P, A] normalised.
            log_error: [B, K, N, P, A].
            spread: [B, K, N, P] normalised.
            kinds: [B, N, 3] ids of mode, variable and level.
            gap_anchors: [B, K, N, P, G] for filling, see :mod:`mtgpt.tokens.gaps`.
            gap_log_error: [B, K, N, P, G].
            gap_spread: [B, K, N, P].

        Returns:
            [B, K, N, P, Q] in units of each series' own location and scale; not sorted along Q. With anchors for
            filling [B, K, N, 2 P, Q]: the token's own patch and then the next one.
        """
        b, k, n, _ = features.shape
        x = self.spot_encoder(features) + self.calendar_encoder(calendar)[:, :, None]
        mode, variable, level = kinds.unbind(-1)
        x = x + (self.mode_embedding(mode) + self.variable_embedding(variable) + self.level_embedding(level))[:, None]
        x = self.dropout(x.reshape(b, k * n, -1))
        position_ids = torch.arange(k * n, device=x.device)[None]
        position_embeddings = self.rotary_emb(x, position_ids)
        for layer in self.layers:
            x = cast("Any", layer)(x, attention_mask=None, position_embeddings=position_embeddings)
        hidden = self.dropout(self.norm(x)).reshape(b, k, n, -1)
        head = self.forecast_head(hidden).reshape(b, k, n, self.config.patch, -1)
        ahead = self._mixed(head, anchors, log_error, self.config.residual_floor + spread)
        middle = ahead[..., self._middle : self._middle + 1]
        ahead = middle + (ahead - middle) * self.band_stretch
        if gap_anchors is None or gap_log_error is None or gap_spread is None:
            if self.training:
                # Processes that train together expect a gradient of every weight in every step.
                unused = (*self.fill_head.parameters(), *self.fill_mixer.parameters())
                ahead = ahead + 0 * sum(p.sum() for p in unused)
            return ahead
        step = self.fill_head(hidden).reshape(b, k, n, self.config.patch, -1)
        apart = gap_anchors[..., 1:] - gap_anchors[..., :1]
        head = self.fill_mixer(torch.cat([step, gap_log_error, apart.clamp(-5, 5), gap_spread[..., None]], -1))
        # Beside a measured value little is left to learn: the error of the best anchor is the unit.
        unit = _LEAST_UNIT + gap_log_error.amin(-1).exp()
        return torch.cat([self._mixed(head, gap_anchors, gap_log_error, unit), ahead], -2)

    def _mixed(self, head: Tensor, anchors: Tensor, log_error: Tensor, unit: Tensor) -> Tensor:
        """[..., P, Q]: the anchors as the head [..., P, Q + A] weighs them, and its residuals in units [..., P]."""
        q = len(self.config.quantile_levels)
        gate = (head[..., q:] - self.config.anchor_trust * log_error).softmax(-1)
        base = (gate * anchors).sum(-1, keepdim=True)
        return base + head[..., :q] * unit[..., None]


def pinball(quantiles: Tensor, truth: Tensor, levels: Tensor, *, cap: float = 20.0) -> Tensor:
    """Pinball loss of every quantile, capped so that one broken detector cannot steer a step.

    Args:
        quantiles: [..., Q].
        truth: [...].
        levels: [Q].
        cap: In normalised units.

    Returns:
        [..., Q].
    """
    error = truth[..., None] - quantiles
    return torch.maximum(levels * error, (levels - 1) * error).clamp(max=cap)
