"""The shape of an MT-GPT: a Qwen3 configuration plus what reads and writes patches."""

from __future__ import annotations

from typing import Any

from transformers import Qwen3Config

QUANTILES = (0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975)


class MTGPTConfig(Qwen3Config):
    """Qwen3's fields (hidden_size, num_hidden_layers, num_attention_heads, head_dim, …) and those of patches.

    Attributes:
        patch: P, steps of one patch.
        context_patches: K, patches of the past that a sequence shows, oldest first.
        quantile_levels: Q levels of the forecast, ascending, with 0.5 among them.
        feature_count: F, features of a dense token; fixed by the codec.
        calendar_count: C, features shared by the series of one cut.
        residual_floor: Smallest unit of a residual, in units of the series' scale.
        dropout: Share of the hidden units that training silences, after the encoder and before the heads.
        readings: 1 or 2: how often a sequence is read for a forecast, the second time with its spots in reverse, and
            the two averaged; training shows both directions.
        anchor_trust: How strongly an anchor's recent error decides between the anchors before anything is learned.
    """

    model_type = "mtgpt"

    patch: int = 12
    context_patches: int = 1
    quantile_levels: list[float] | tuple[float, ...] = QUANTILES
    feature_count: int = 125
    calendar_count: int = 27
    dropout: float = 0.0
    readings: int = 1
    residual_floor: float = 0.3
    anchor_trust: float = 3.0

    @staticmethod
    def editable_fields() -> tuple[str, ...]:
        """What may differ between a checkpoint and the model that loads it; all else is fixed by the weights."""
        return ("attention_dropout", "dropout", "anchor_trust", "residual_floor", "context_patches", "readings")


def size(name: str, **changes: Any) -> MTGPTConfig:
    """A named size: ``nano`` (CPU), ``small`` (one accelerator).

    Args:
        name: ``nano`` or ``small``.
        changes: Fields to set differently.
    """
    sizes: dict[str, dict[str, Any]] = {
        "nano": {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 24,
                 "intermediate_size": 192},
        "small": {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "head_dim": 64,
                  "intermediate_size": 1536},
    }  # fmt: skip
    if name not in sizes:
        from mtgpt.errors import UsageError  # noqa: PLC0415 - only when it is needed

        raise UsageError("there is no such size", where="size", got=name, expected=" or ".join(sizes))
    shape: dict[str, Any] = sizes[name] | {"num_key_value_heads": 2 if name == "nano" else 4, "vocab_size": 1} | changes
    return MTGPTConfig(**shape)
