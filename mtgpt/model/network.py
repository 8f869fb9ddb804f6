"""MT-GPT's network: Qwen3 decoder layers over patches, plain causal attention.

Notable:

* a token is one patch of one series; time-major, within a patch ``[network][corridors][spots]``, so the aggregates
  are visible to every spot after them and RoPE's distance means nearness along the graph;
* every token forecasts its *next* patch as quantiles;
* the forecast is a gated mix of three anchors (last value and two seasonal expectations) that starts from how wrong
  each has recently been, plus a residual in units of the usual spread: right on a mode never seen, before any training;
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
from mtgpt.tokens.seasonal import ANCHORS
from mtgpt.tokens.vocabulary import LEVELS, MODES, VARIABLES

if TYPE_CHECKING:
    from torch import Tensor

_SPARE = 32  # room for modes and variables appended later


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
        self.mode_embedding = nn.Embedding(_SPARE, d)
        self.variable_embedding = nn.Embedding(_SPARE, d)
        self.level_embedding = nn.Embedding(len(LEVELS), d)
        self.layers = nn.ModuleList(Qwen3DecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = Qwen3RMSNorm(d, eps=config.rms_norm_eps)
        self.rotary_emb = Qwen3RotaryEmbedding(config=config)
        self.forecast_head = nn.Linear(d, p * (q + len(ANCHORS)))
        # How far each quantile lies from the median, in units of what was learned; see mtgpt.train.calibrate.
        self.band_stretch: Tensor
        self.register_buffer("band_stretch", torch.ones(q))
        self._middle = list(config.quantile_levels).index(0.5)
        if len(MODES) > _SPARE or len(VARIABLES) > _SPARE:
            raise ValueError("the vocabulary of modes or variables outgrew its embeddings")
        self.post_init()
        # Untrained, the forecast is the trusted mix of the anchors.
        nn.init.zeros_(self.forecast_head.weight)
        nn.init.zeros_(self.forecast_head.bias)

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
    ) -> Tensor:
        """Forecasts the next patch of every token.

        Args:
            features: [B, K, N, F].
            calendar: [B, K, C].
            anchors: [B, K, N, P, A] normalised.
            log_error: [B, K, N, P, A].
            spread: [B, K, N, P] normalised.
            kinds: [B, N, 3] ids of mode, variable and level.

        Returns:
            [B, K, N, P, Q] in units of each series' own location and scale; not sorted along Q.
        """
        b, k, n, _ = features.shape
        x = self.spot_encoder(features) + self.calendar_encoder(calendar)[:, :, None]
        mode, variable, level = kinds.unbind(-1)
        x = x + (self.mode_embedding(mode) + self.variable_embedding(variable) + self.level_embedding(level))[:, None]
        x = x.reshape(b, k * n, -1)
        position_ids = torch.arange(k * n, device=x.device)[None]
        position_embeddings = self.rotary_emb(x, position_ids)
        for layer in self.layers:
            x = cast("Any", layer)(x, attention_mask=None, position_embeddings=position_embeddings)
        head = self.forecast_head(self.norm(x)).reshape(b, k, n, self.config.patch, -1)
        q = len(self.config.quantile_levels)
        gate = (head[..., q:] - self.config.anchor_trust * log_error).softmax(-1)
        base = (gate * anchors).sum(-1, keepdim=True)
        residual = head[..., :q] * (self.config.residual_floor + spread[..., None])
        middle = residual[..., self._middle : self._middle + 1]
        return base + middle + (residual - middle) * self.band_stretch


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
