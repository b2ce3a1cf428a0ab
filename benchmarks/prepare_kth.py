"""How fast a set of the size of KTH actions is prepared, and in how much memory.

    python benchmarks/prepare_kth.py

It writes 599 videos of 160 x 120 pixels and some 290,000 frames in all to a temporary folder first,
with their 00sequences.txt; then `dsae prepare kth` runs as a process of its own.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import cycle, pairwise
from pathlib import Path

import av
import click
import numpy as np

from pyro_dsae.datasets import SequenceFile
from pyro_dsae.datasets.kth import ACTIONS, PERSONS, SEQUENCES

VIDEOS = 599  # of the 25 persons, 6 actions and 4 scenarios, one is missing
FRAMES = 484  # of each: 289,916 in all
DISTINCT = 8
SEED = 0


def write_set(folder: Path, videos: int, frames: int) -> None:
    """Videos in four sequences each; those after DISTINCT are copies, as pixels cost the same."""
    names = [f"person{p}_{a}_d{d}" for p in PERSONS for a in ACTIONS for d in range(1, 5)][:videos]
    paths = [folder / f"{name}_uncomp.avi" for name in names]
    random = np.random.default_rng(SEED)
    for path in paths[:DISTINCT]:
        write_video(path, frames, random)
    for path, copied in zip(paths[DISTINCT:], cycle(paths[:DISTINCT]), strict=False):
        shutil.copyfile(copied, path)
    bounds = np.linspace(0, frames, 5).astype(int)
    ranges = ", ".join(f"{first + 1}-{last}" for first, last in pairwise(bounds))
    lines = (f"{name}\t\tframes\t{ranges}\n" for name in names)
    (folder / SEQUENCES).write_text("".join(lines))


def write_video(path: Path, frames: int, random: np.random.Generator) -> None:
    """A light disk that moves over noise."""
    rows, columns = np.ogrid[:120, :160]
    speed = random.uniform(0.05, 0.3)
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.bit_rate = 1_000_000
        for t in range(frames):
            x, y = 80 + 50 * np.sin(speed * t), 60 + 30 * np.cos(0.7 * speed * t)
            disk = (columns - x) ** 2 + (rows - y) ** 2 < 300
            picture = (random.normal(90, 6, (120, 160)) + 80 * disk).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        container.mux(stream.encode())


@click.command()
@click.option("--videos", type=click.IntRange(1, VIDEOS), default=VIDEOS, help="How many of them.")
@click.option("--frames", type=click.IntRange(min=4), default=FRAMES, help="Of each video.")
def main(videos: int, frames: int) -> None:
    """Print frames a second, peak memory and sizes as JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_set(folder, videos, frames)
        out = folder / "kth.h5"
        command = [sys.executable, "-m", "pyro_dsae.cli", "prepare", "kth", out, "--source", folder]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(process.returncode)
        unit = 1 if sys.platform == "darwin" else 1024
        with SequenceFile.open(out) as file:
            facts = {
                "videos": videos,
                "frames": videos * frames,
                "sequences": len(file),
                "seconds": round(seconds, 1),
                "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
                "frames_a_second": round(videos * frames / seconds),
                "peak_memory_mb": round(usage.ru_maxrss * unit / 1e6),
                "video_mb": round(sum(p.stat().st_size for p in folder.glob("*.avi")) / 1e6, 1),
                "file_mb": round(out.stat().st_size / 1e6, 1),
            }
    click.echo(json.dumps(facts))


if __name__ == "__main__":
    main()
