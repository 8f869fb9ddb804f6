"""Where to compute, and why: npu → cuda → cpu."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device, the reason it was chosen, and the collective backend that goes with it."""

    device: torch.device
    reason: str
    backend: str


def choose_device(wanted: str | None = None) -> Device:
    """Picks the device.

    Args:
        wanted: ``cpu``, ``cuda``, ``npu`` (with ``:index`` if several), or None for the best there is.

    Raises:
        ModelError: The device wanted is not usable here.
    """
    kind = (wanted or "").split(":")[0]
    npu, npu_reason = _npu()
    cuda = torch.cuda.is_available()
    if kind not in {"", "cpu", "cuda", "npu"} or (kind == "cuda" and not cuda) or (kind == "npu" and not npu):
        from mtgpt.errors import ModelError  # noqa: PLC0415 - the rare path

        raise ModelError(
            "the device wanted is not usable here",
            where="device",
            got=wanted,
            expected=" or ".join(["cpu"] + ["cuda"] * cuda + ["npu"] * npu),
            next_step=f"leave the option out to take the best there is ({npu_reason})",
        )
    if kind == "npu" or (not kind and npu):
        return Device(device=torch.device(wanted or "npu"), reason=npu_reason, backend="hccl")
    if kind == "cuda" or (not kind and cuda):
        name = torch.cuda.get_device_name()
        return Device(device=torch.device(wanted or "cuda"), reason=f"{name} answers", backend="nccl")
    reason = "asked for" if kind else f"no CUDA device answers and {npu_reason}"
    return Device(device=torch.device("cpu"), reason=reason, backend="gloo")


def _npu() -> tuple[bool, str]:
    # With torch_npu installed and no CANN, importing torch itself raises, so being here means it may be tried.
    if importlib.util.find_spec("torch_npu") is None:
        return False, "torch_npu is not installed"
    import torch_npu  # noqa: F401, PLC0415 # pyright: ignore[reportMissingImports] - optional, registers torch.npu

    npu = getattr(torch, "npu", None)
    if npu is None or not npu.is_available():
        return False, "torch_npu is installed but no NPU answers"
    return True, f"{npu.get_device_name()} answers"
