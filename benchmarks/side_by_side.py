"""Commands of ``dsae`` side by side, each in a process of its own with a log of its own."""

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Job:
    """A command of ``dsae``.

    Args:
        name: what it does, in words.
        arguments: of ``dsae``.
        log: the file that what it prints is added to.
        on_start: called when it starts.
    """

    name: str
    arguments: Sequence[str]
    log: Path
    on_start: Callable[[], None] = lambda: None


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Makes ``folder`` and keeps others out of it; yields the lock, a file descriptor.

    Jobs share the lock, so that it holds until the last one ends, even where this process is
    killed. Raises ClickException when others are at work in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(
                f"{folder}: a study, or a command that one started, is at work here; wait for it"
            ) from None
        yield lock.fileno()


def start(job: Job, threads: int, lock: int) -> subprocess.Popen:
    """Start a job."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log:
        log.write(f"$ dsae {shlex.join(job.arguments)}\n")
        log.flush()
        return subprocess.Popen(
            [sys.executable, "-m", "pyro_dsae.cli", *job.arguments],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,  # or a Ctrl-C would reach it twice, and a second one kills
            pass_fds=[lock],
        )


def run_all(jobs: Sequence[Job], at_once: int, threads: int, lock: int) -> list[str]:
    """Run all jobs, ``at_once`` side by side and each with ``threads``; a line for each failure.

    A Ctrl-C and SIGTERM end those that run, with a checkpoint, and no other starts.
    """
    waiting, running, failed = list(jobs), [], []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                running.append((job, start(job, threads, lock)))
                job.on_start()
            ended = [(job, process) for job, process in running if process.poll() is not None]
            running = [entry for entry in running if entry not in ended]
            for job, process in ended:
                click.echo(f"{job.name}: {'failed' if process.returncode else 'done'}", err=True)
                failed += [f"{job.name} failed, see {job.log}"] if process.returncode else []
            if not ended:
                time.sleep(POLL_SECONDS)
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()
        signal.signal(signal.SIGTERM, before)
    return failed
