"""MT-GPT: the network together with the codec, so that it forecasts panels in physical units."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers.utils import logging as hf_logging

from mtgpt.contracts.variables import variables
from mtgpt.errors import ModelError, PanelError
from mtgpt.model.checkpoint import WEIGHTS, model_sha256, refuse_other_sizes
from mtgpt.model.config import MTGPTConfig
from mtgpt.model.forecast import Forecast
from mtgpt.model.impute import Imputation, impute
from mtgpt.model.inputs import gap_inputs, network_inputs
from mtgpt.model.low_rank import ADAPTER, apply_adapter, read_facts
from mtgpt.model.network import PatchNetwork
from mtgpt.model.reconcile import Method, reconcile
from mtgpt.tokens.dense import CALENDAR_COUNT, Scale, Window, decode, feature_count, window
from mtgpt.tokens.gaps import Bridges, Gaps, gaps
from mtgpt.tokens.history import History, make_history
from mtgpt.tokens.presence import presence_ahead
from mtgpt.tokens.roll import Roll
from mtgpt.tokens.sequence import back_to_front, owners, sequences
from mtgpt.tokens.vocabulary import kind_ids

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from mtgpt.panel.panel import Panel

HISTORY_PATCHES = 8
# Share of one patch's last uncertainty that the first and the last step of the next patch inherit: found on the
# validation part of PEMSD7(M), where 80 % bands then cover 79 to 82 % at all steps up to four hours (notebooks/LOG.md).
_CARRY = (0.88, 0.68)


class MTGPT(PatchNetwork):
    """One model for all spots, corridors and the network of any city.

    ``save_pretrained`` and ``from_pretrained`` are those of transformers, restricted to local safetensors.
    """

    def __init__(self, config: MTGPTConfig) -> None:
        super().__init__(config)
        if (config.feature_count, config.calendar_count) != (feature_count(config.patch), CALENDAR_COUNT):
            raise ModelError(
                "the checkpoint was made for another token layout",
                where=config.name_or_path or None,
                got=f"{config.feature_count} + {config.calendar_count} features",
                expected=f"{feature_count(config.patch)} + {CALENDAR_COUNT}",
                next_step="train the model again with this version",
            )

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], **changes: Any) -> MTGPT:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Loads a model from a local folder.

        Args:
            folder: Written by training or ``save_pretrained``.
            changes: Values for some of ``config.editable_fields()``.

        Raises:
            ModelError: No model there, unreadable, or a field that the weights fix.
        """
        path = Path(folder)
        if (path / ADAPTER).is_file() and not (path / WEIGHTS).is_file():
            return cls._adapted(path, changes)
        if not (path / WEIGHTS).is_file():
            raise ModelError(
                "there is no model", where=path, expected=WEIGHTS, next_step="train one: mtgpt train --help"
            )
        fixed = set(changes) - set(MTGPTConfig.editable_fields())
        if fixed:
            raise ModelError(
                "the weights fix this",
                where=path,
                got=", ".join(sorted(fixed)),
                expected=", ".join(MTGPTConfig.editable_fields()),
            )
        refuse_other_sizes(path)
        bars = hf_logging.is_progress_bar_enabled()
        hf_logging.disable_progress_bar()
        try:
            model = super().from_pretrained(str(path), local_files_only=True, use_safetensors=True, **changes)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError, RuntimeError) as error:
            raise ModelError(
                "the model cannot be loaded",
                where=path,
                got=str(error).splitlines()[0],
                next_step="copy or train it again",
            ) from error
        finally:
            if bars:
                hf_logging.enable_progress_bar()
        return model.eval()

    @classmethod
    def _adapted(cls, path: Path, changes: dict[str, Any]) -> MTGPT:
        # The base may have moved together with the adapter, so its place is kept relative to it.
        model = cls.from_pretrained(path / str(read_facts(path).get("base_path", "")), **changes)
        apply_adapter(model, path, base_sha256=model.fingerprint())
        model.config.name_or_path = str(path)
        return model.eval()

    def fingerprint(self) -> str:
        """sha256 of the weights, 64 hex digits: of the file it came from, or of the tensors if it came from none."""
        path = Path(self.config.name_or_path or "")
        if self.config.name_or_path and (path / WEIGHTS).is_file():
            return model_sha256(path)
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def forecast(
        self,
        panel: Panel,
        at: np.datetime64 | str | None = None,
        horizon: int = 12,
        *,
        method: Method = "wls",
    ) -> Forecast:
        """Forecasts all series of a panel.

        To forecast one panel again and again, keep a :class:`Forecaster`: it prepares the panel once.

        Args:
            panel: Of any city; the model need not have seen it.
            at: End of the last visible step (UTC); None for the end of the panel.
            horizon: H, steps ahead.
            method: How levels are made coherent, see :func:`mtgpt.model.reconcile.reconcile`.

        Raises:
            PanelError: ``at`` lies outside the panel, or less than a day lies before it.
        """
        return Forecaster(self, panel).forecast(at, horizon, method=method)

    def impute(
        self, panel: Panel, start: np.datetime64 | str | None = None, stop: np.datetime64 | str | None = None
    ) -> Imputation:
        """Fills what the spots of a panel did not measure, whole silent spots included.

        Args:
            panel: Of any city; the model need not have seen it.
            start: First moment to fill (UTC); None for the beginning.
            stop: End of the last step to fill; None for the end of the panel.

        Raises:
            PanelError: The panel ends before its second day.
        """
        first = 0 if start is None else int(np.searchsorted(panel.time, _moment(start)))
        last = panel.n_step if stop is None else panel.steps_until(_moment(stop))
        return impute(Forecaster(self, panel), start=first, stop=last)


class Forecaster:
    """A model and a panel made ready for each other."""

    def __init__(self, model: MTGPT, panel: Panel) -> None:
        self.model = model.eval()
        self.panel = panel
        self.history: History = make_history(panel, patch=model.config.patch)
        self.parts = sequences(panel)
        self.owner = owners(self.parts, panel.n_series)
        self.kinds = kind_ids(panel.series)
        self._sha = model.fingerprint()
        known = variables()
        self.least = np.asarray(
            [
                known[v].minimum if v in known and known[v].minimum is not None else -np.inf
                for v in panel.series["variable"]
            ]
        )

    def forecast(self, at: np.datetime64 | str | None = None, horizon: int = 12, *, method: Method = "wls") -> Forecast:
        """See :meth:`MTGPT.forecast`."""
        cut = self._cut(at)
        if horizon < 1:
            raise PanelError("a horizon has at least one step", where="horizon", got=horizon, expected="≥ 1")
        panel, patch = self.panel, self.model.config.patch
        quantiles = self.finish(self._roll(cut, horizon), method, cut).astype(np.float32)
        time, _ = panel.calendar.extend(max(0, cut + 1 + horizon - panel.n_step))
        first = max(0, cut + 1 - HISTORY_PATCHES * patch)
        ahead = np.asarray(panel.values[cut + 1 : cut + 1 + horizon], np.float32).T
        observed = None
        if ahead.size:
            observed = np.full((panel.n_series, horizon), np.nan, np.float32)
            observed[:, : ahead.shape[1]] = ahead
        step = np.timedelta64(panel.meta.interval_s, "s")
        end = panel.time[cut] + step
        return Forecast(
            city=panel.meta.city,
            at=end,
            time=np.asarray(time[cut + 1 : cut + 1 + horizon]),
            interval_s=panel.meta.interval_s,
            time_zone=panel.meta.time_zone,
            series=panel.series,
            levels=tuple(self.model.config.quantile_levels),
            quantiles=quantiles,
            history_time=np.asarray(panel.time[first : cut + 1]),
            history=np.asarray(panel.values[first : cut + 1], np.float32).T,
            observed=observed,
            provenance=self.provenance(first, cut, reconciliation=method),
        )

    def quantiles(self, cuts: NDArray[np.integer]) -> NDArray[np.float64]:
        """Quantiles of the next patch at many cuts, [B, S, P, Q] in physical units, neither reconciled nor bounded."""
        back = self.model.config.context_patches - 1
        return self._read(
            lambda part: [window(self.history, cuts - self.history.patch * k, part) for k in range(back, -1, -1)],
            len(cuts),
        )

    def fills(self, cuts: NDArray[np.integer], over: Bridges) -> NDArray[np.float64]:
        """Quantiles of the patches that end at many cuts, [B, S, P, Q] in physical units; for what was not measured.

        Args:
            cuts: [B] at least ``history.first_cut()``.
            over: From :func:`mtgpt.tokens.gaps.bridge` of this history.
        """
        patch = self.model.config.patch
        ends = [cuts - patch * k for k in range(self.model.config.context_patches - 1, -1, -1)]
        both = self._read(
            lambda part: [window(self.history, at, part) for at in ends],
            len(cuts),
            lambda part, states: [gaps(self.history, over, at, part, s) for at, s in zip(ends, states, strict=True)],
        )
        return both[:, :, :patch]

    def _read(
        self,
        views: Callable[[NDArray[np.int64]], list[Window]],
        count: int,
        holes: Callable[[NDArray[np.int64], list[Scale]], list[Gaps]] | None = None,
    ) -> NDArray[np.float64]:
        """[B, S, P, Q] in physical units, every series from the sequence that answers for it.

        Args:
            views: The K context windows of the series given.
            count: B.
            holes: What is to be filled in these windows, given the states that decode them; the answer is then
                [B, S, 2 P, Q], the windows' own last patch first.
        """
        config = self.model.config
        steps = config.patch * (1 if holes is None else 2)
        out = np.empty((count, self.panel.n_series, steps, len(config.quantile_levels)))
        for i, part in enumerate(self.parts):
            mine = self.owner[part] == i
            normal, state = self._run(views(part), part, holes)
            if config.readings > 1:
                order = back_to_front(part, self.panel.n_spot)
                again, _ = self._run(views(part[order]), part[order], holes)
                normal[:, order] = (normal[:, order] + again) / 2
            out[:, part[mine]] = decode(normal, state)[:, mine]
        return out

    def finish(self, quantiles: NDArray[np.float64], method: Method, cut: int) -> NDArray[np.float64]:
        """Makes [S, H, Q] of one cut coherent across levels and keeps each variable above its least possible value."""
        presence, spots = self.history.presence, self.panel.n_spot
        return reconcile(
            quantiles,
            self.model.config.quantile_levels,
            self.panel.aggregation,
            method=method,
            minimum=self.least,
            presence=None
            if presence is None
            else presence_ahead(presence, self.panel.calendar, cut, quantiles.shape[1])[:spots],
        )

    def _roll(self, cut: int, horizon: int) -> NDArray[np.float64]:
        """[S, H, Q] patch by patch."""
        patch, middle = self.model.config.patch, list(self.model.config.quantile_levels).index(0.5)
        cuts = np.asarray([cut])
        physical = self.quantiles(cuts)[0]
        patches = [physical]
        if horizon > patch:
            roll = Roll(self.panel, self.history, cut, horizon)
            view = window(self.history, cuts)
            past = [window(self.history, cuts - patch * k) for k in range(self.model.config.context_patches - 1, 0, -1)]
            for done in range(1, -(-horizon // patch)):
                before = patches[-1][:, -1:]
                carry = np.linspace(*_CARRY, patch)[:, None] * (before - before[..., middle : middle + 1])
                medians = (patches[-1][..., middle] - view.location[0][:, None]) / view.scale[0][:, None]
                past = [*past, view][-(self.model.config.context_patches - 1) :] if past else []
                view = roll.advance(view, medians[None].astype(np.float32), done)
                now = [*past, view]
                physical = self._read(lambda part, now=now: [_take(v, part) for v in now], 1)[0]
                centre = physical[..., middle : middle + 1]
                offset = physical - centre
                # What was uncertain at the end of one patch stays so in the next.
                patches.append(centre + np.sign(offset) * np.hypot(offset, carry))
        out = np.concatenate(patches, 1)[:, :horizon]
        out[~self.history.alive[self.history.calendar.day[cut]]] = np.nan
        return out

    @torch.inference_mode()
    def _run(
        self,
        views: list[Window],
        part: NDArray[np.int64],
        holes: Callable[[NDArray[np.int64], list[Scale]], list[Gaps]] | None,
    ) -> tuple[NDArray[np.float32], Scale]:
        """[B, N, P, Q] normalised, of the last of K context patches, and its decoding state; see :meth:`_read`."""
        inputs, states = network_inputs(views, self.kinds[part])
        if holes is not None:
            inputs |= gap_inputs(holes(part, states))
        quantiles = self.model(**{name: tensor.to(self.model.device) for name, tensor in inputs.items()})
        return quantiles[:, -1].float().cpu().numpy(), states[-1]

    def _cut(self, at: np.datetime64 | str | None) -> int:
        panel = self.panel
        steps = panel.n_step if at is None else panel.steps_until(_moment(at))
        first = self.history.first_cut() + (self.model.config.context_patches - 1) * self.history.patch
        cut = steps - 1
        if cut < first:
            step = np.timedelta64(panel.meta.interval_s, "s")
            raise PanelError(
                "there is less than one day of data before this moment",
                where=panel.meta.city,
                got=f"{at} UTC",
                expected=f"{panel.time[first] + step} to {panel.time[-1] + step} UTC",
                next_step="ask for a later moment or ingest earlier days",
            )
        return cut

    def provenance(self, first: int, cut: int, **more: Any) -> dict[str, Any]:
        """Where numbers come from.

        Args:
            first: Step from which on values were read as context.
            cut: Last step that was read.
            more: What else there is to say.
        """
        meta = self.panel.meta
        return {
            "city": meta.city,
            "name": meta.name,
            "simulated": meta.simulated,
            "panel_id": meta.panel_id,
            "table_versions": dict(meta.table_versions),
            "contracts": dict(meta.contracts),
            "window": [f"{self.panel.time[0]}Z", f"{self.panel.time[cut] + np.timedelta64(meta.interval_s, 's')}Z"],
            "context": [f"{self.panel.time[max(first, cut + 1 - self.history.patch)]}Z"],
            "model": Path(self.model.config.name_or_path or "in-memory").name,
            "model_sha256": self._sha,
            **more,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _moment(at: np.datetime64 | str) -> np.datetime64:
    return at.astype("datetime64[s]") if isinstance(at, np.datetime64) else np.datetime64(at, "s")


def _take(view: Window, index: Sequence[int] | NDArray[np.int64]) -> Window:
    """The same window for some of its series."""
    shared = {"calendar", "covariates"}
    parts = {n: getattr(view, n) for n in view.__slots__}
    return Window(**{n: x if n in shared else x[:, index] if n == "error" else x[..., index] for n, x in parts.items()})
