"""What the pages of results share: tables, mean and sd, and how they were made."""

import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = (head, ["---"] * len(head), *rows)
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def mean_and_sd(values: Sequence[float], digits: str) -> str:
    """Mean ± sample standard deviation (of n - 1), each in the format ``digits``; one has no sd."""
    mean = f"{statistics.fmean(values):{digits}}"
    return f"{mean} ± {statistics.stdev(values):{digits}}" if len(values) > 1 else mean


def mean_and_se(differences: Sequence[float], digits: str) -> str:
    """Mean ± its standard error, the sample standard deviation over sqrt(n); signed, likewise."""
    mean = f"{statistics.fmean(differences):+{digits}}"
    if len(differences) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(differences) / math.sqrt(len(differences)):{digits}}"


def command() -> str:
    """The command that is running, as a reader of its page gives it again."""
    return f"python benchmarks/{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}"


def commit() -> str:
    """The commit of this checkout, with -dirty where a file of it was changed."""
    describe = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    answer = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True)
    return answer.stdout.strip() or "unknown"


def machine(device: torch.device) -> dict[str, Any]:
    """What times are taken on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": name, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
