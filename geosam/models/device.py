"""Which device and number format a network runs with."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from geosam.errors import OptionError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Placement:
    """Where a network runs, and in which number format."""

    device: torch.device
    """The torch device."""
    dtype: torch.dtype
    """Of matrix products and convolutions. Weights, inputs and outputs are float32 all the same."""

    def cast(self) -> torch.autocast:
        """Return the context in which an encoder computes in that format.

        Decoders stay outside it: they take little time, and the position of a point would be
        rounded to a pixel or more.
        """
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def send(self, array: np.ndarray) -> torch.Tensor:
        """Bring an array to the device; to a GPU from page-locked memory, so that the copy runs beside
        what the GPU still computes.
        """
        tensor = torch.as_tensor(array)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)


def place(device: str = "auto", precision: str = "auto") -> Placement:
    """Choose device and number format.

    ``auto`` takes CUDA, then Apple's MPS, then the CPU; bfloat16 on CUDA devices that compute in it
    themselves and on processors that are quick in it, else float32. Quick are those with AMX
    (measured 2.4 times as fast as float32 for ViT-B at a relative error of 1 %) and AMD's with
    AVX-512 BF16 (1.4 times for river-tiny's encoder). Intel's have the latter too, but gain nothing
    by it: 0.7 times as fast for river-tiny's encoder and 0.6 for its coarse network where AMX is
    not to be had.

    Raises
    ------
    OptionError
        If the device is not there, or cannot compute in the format.
    """
    where = torch.device(_best_device() if device == "auto" else device)
    _check_device(where)
    if where.type == "cpu" and precision == "fp16":
        raise OptionError("--precision fp16 is not for the CPU. Use bf16, fp32 or auto.")
    return Placement(where, _best_dtype(where) if precision == "auto" else _DTYPES[precision])


def visible_devices(numbers: Sequence[str]) -> list[str]:
    """Return what makes each of some CUDA devices the only one that a process sees.

    Parameters
    ----------
    numbers
        Of the devices, among those that this process sees.

    Raises
    ------
    OptionError
        If one of them is not there.
    """
    for number in numbers:
        _check_device(torch.device("cuda", int(number)))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return list(numbers) if named is None else [named.split(",")[int(n)] for n in numbers]


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_device(device: torch.device) -> None:
    if device.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(
            "--device cuda: torch sees no CUDA device. Use --device cpu, or install a CUDA build of torch."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(
            f"--device {device}: there are {torch.cuda.device_count()} CUDA devices, counted from 0."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise OptionError("--device mps: torch sees no MPS device. Use --device cpu.")


def _best_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        with torch.cuda.device(device):  # the question is about the current one
            computes = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if computes else torch.float32
    quick = device.type == "cpu" and (
        torch.cpu._is_amx_tile_supported()
        or (torch.cpu._is_avx512_bf16_supported() and "AuthenticAMD" in _processor())
    )
    return torch.bfloat16 if quick else torch.float32


def _processor() -> str:
    """Return what the system says of the processor, its maker among it."""
    told = Path("/proc/cpuinfo")
    return told.read_text() if told.exists() else platform.processor()
