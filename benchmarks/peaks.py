"""What the machine does at best: the rates of matrix products and of convolutions alone."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from timing import seconds

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}
REPEATS = 20
# Of several the best counts: squares of matrices, and convolutions by channels, kernel, stride,
# side and frames.
MATRICES = (1024, 2048, 4096)
CONVOLUTIONS = ((256, 3, 1, 32, 16), (256, 4, 2, 32, 64), (512, 3, 1, 16, 32), (64, 4, 2, 32, 128))

Call = tuple[int, Callable[[], Any]]  # operations, and what does them


def peaks(
    device: torch.device,
    matrices: Sequence[int] = MATRICES,
    convolutions: Sequence[tuple[int, int, int, int, int]] = CONVOLUTIONS,
) -> dict[str, dict[str, float]]:
    """GFLOP/s of the best ``matmul`` and the best ``convolution``, by precision."""
    found = {}
    for name, dtype in PRECISIONS.items():
        kind = {"device": device, "dtype": dtype}
        found[name] = {
            "matmul": _best([_product(size, **kind) for size in matrices], device),
            "convolution": _best([_convolution(*shape, **kind) for shape in convolutions], device),
        }
    return found


def _best(calls: Sequence[Call], device: torch.device) -> float:
    rates = []
    for operations, run in calls:
        run()
        rates += [operations / seconds(run, device) for _ in range(REPEATS)]
    return max(rates) / 1e9


def _product(size: int, **kind: Any) -> Call:
    a, b = torch.randn(2, size, size, **kind)
    return 2 * size**3, lambda: a @ b


def _convolution(
    channels: int, kernel: int, stride: int, side: int, frames: int, **kind: Any
) -> Call:
    x = torch.randn(frames, channels, side, side, **kind).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, kernel, kernel, **kind)
    weight = weight.to(memory_format=torch.channels_last)
    outputs = frames * (side // stride) ** 2 * channels
    padding = (kernel - 1) // 2
    return 2 * outputs * channels * kernel**2, lambda: F.conv2d(x, weight, None, stride, padding)
