"""A study: models trained under one budget with several seeds, each evaluated, and a page.

A study is a list of cells, each a data file with options. Every cell is trained with every seed by
``dsae fit``, as many side by side as there are ``--jobs``, one thread each; then ``dsae evaluate``
measures every run. The same command goes on where it was cut off: a run half trained is resumed, a
finished one is left, and what was measured of it is not measured again. With nothing left to do it
writes the page alone.

The single figures beside the page stand in for runs whose folders are gone: a study can be carried
out bit by bit, on one machine after another. A page of another name is made afresh.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch

import results
from design import TRAINING, Cell, Study
from pages import commit, machine
from plan import Plan
from pyro_dsae import CheckpointError, ConfigError, ModelConfig, TrainingConfig
from pyro_dsae.checkpoint import write_whole
from pyro_dsae.cli.evaluate import JUDGED
from pyro_dsae.datasets import DataError, SequenceFile
from pyro_dsae.evaluation.judge import JudgeError, check_accuracy, load_judge
from pyro_dsae.evaluation.report import weights_sha256
from pyro_dsae.run_folder import CONFIG, EVALUATION, RunFolder, TrainingError, read_metrics
from results import Result
from side_by_side import Job, alone, run_all

THREADS = 1  # of a run; several runs of one thread use the cores better than one of several
CONFIGS = {"model": ModelConfig, "training": TrainingConfig}


@dataclass(frozen=True)
class Run:
    """A cell with a seed.

    Args:
        folder: of ``dsae fit``; beside it lie a log and a record of how it was made.
        settings: what the folder's checkpoint must have been trained with.
    """

    cell: Cell
    seed: int
    folder: Path
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.cell.name} seed {self.seed}"

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    @property
    def started(self) -> bool:
        return (self.folder / CONFIG).exists()

    @property
    def finished(self) -> bool:
        """Whether its budget is spent.

        Raises TrainingError when the folder holds a run of other options.
        """
        if not self.started:
            return False
        state, training = RunFolder(self.folder, self.settings).restore(), self.settings["training"]
        if training["minutes"] is None:
            return len(state["history"]) >= training["epochs"]
        return state["step"] == 0 and state["seconds"] >= 60 * training["minutes"]

    def measured(self, study: Study, part: str) -> tuple[int, dict[str, dict[str, Any]]]:
        """How many sequences of a part its weights were measured on, and the figures by section:
        of those that have all which the tables show.

        Raises TrainingError when the file of it is damaged.
        """
        file = self.folder / EVALUATION
        if not file.exists():
            return 0, {}
        try:
            report, data = json.loads(file.read_text()), self.settings["data"]["content_sha256"]
            of = report["weights_sha256"], report["data"]["content_sha256"], report["data"]["part"]
            sequences = report["data"]["sequences"]
            held = {name: made["figures"] for name, made in report["sections"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TrainingError(f"{file}: is damaged; remove it") from None
        if of != (weights_sha256(self.folder), data, part):
            return 0, {}
        return sequences, {name: held[name] for name in study.readable(self.cell, held)}

    def result(self, study: Study, part: str, judges: Mapping[Path, str]) -> Result:
        """What the study's tables show of it, once it is finished."""
        metrics = read_metrics(self.folder)
        speed = median(epoch["sequences_per_second"] for epoch in metrics)
        seconds = RunFolder(self.folder, self.settings).restore()["seconds"]
        training = {
            "sequences_per_second": speed,
            "step_ms": 1000 * self.settings["training"]["batch_size"] / speed,
            "minutes": seconds / 60,
        }
        sequences, figures = self.measured(study, part)
        sections = {TRAINING: training, **figures}
        data = {key: self.settings["data"][key] for key in ("name", "content_sha256")}
        return Result(
            cell=self.cell.name,
            seed=self.seed,
            part=part,
            settings={name: self.settings[name] for name in CONFIGS},
            data={**data, "sequences": sequences},
            epochs=len(metrics),
            weights_sha256=weights_sha256(self.folder),
            **self.record(),
            judge=judges.get(self.cell.judge),
            figures={
                shown.title: {column.head: column.of(sections) for column in shown.columns}
                for shown in study.tables
                if shown.shows(self.cell)
            },
        )

    def is_of(self, result: Result, study: Study, part: str) -> bool:
        """Whether an earlier result is this run's, with a figure for all that the tables show."""
        if (result.cell, result.seed, result.part) != (self.cell.name, self.seed, part):
            return False
        if self.cell.judge and result.judge is None:
            return False
        try:  # an option that is newer than the result had its default
            of = {name: made.from_dict(result.settings[name]) for name, made in CONFIGS.items()}
        except (ConfigError, KeyError):
            return False
        mine = {name: made.from_dict(self.settings[name]) for name, made in CONFIGS.items()}
        same_data = result.data["content_sha256"] == self.settings["data"]["content_sha256"]
        heads = {title: list(figures) for title, figures in result.figures.items()}
        return same_data and of == mine and heads == study.heads(self.cell)

    def record(self) -> dict[str, list[str]]:
        """How it was trained and evaluated, in words: more than one where it was resumed."""
        file = self.folder.with_suffix(".json")
        return json.loads(file.read_text()) if file.exists() else {"trained": [], "evaluated": []}

    def note(self, done: str, how: str, afresh: bool = False) -> None:
        """Add to the record, or begin it."""
        record = {"trained": [], "evaluated": []} if afresh else self.record()
        record[done] = list(dict.fromkeys([*record[done], how]))
        write_whole(self.folder.with_suffix(".json"), json.dumps(record).encode())


def carry_out(study: Study, plan: Plan) -> None:
    """Train and evaluate what is left of ``study``, and write the page and its single figures.

    Raises ClickException, after all else is done, when a run failed, and before anything is when
    the folder of a run holds one of other options.
    """
    earlier = results.read(plan)
    try:
        runs = [run for seed in range(plan.seeds) for run in _runs(study, plan, seed)]
        known = {
            run.name: result
            for run in runs
            if not run.started
            for result in earlier
            if run.is_of(result, study, plan.part)
        }
        here = [run for run in runs if run.name not in known]
        left = [run for run in here if not run.finished]
        for run in here:
            run.measured(study, plan.part)  # refuses a damaged one before the work
    except (ConfigError, DataError, TrainingError) as error:
        raise click.ClickException(str(error)) from None
    for name in known:
        click.echo(f"{name}: as {plan.single} has it", err=True)
    with alone(plan.runs) as lock:
        if not plan.out.parent.is_dir():
            raise click.ClickException(f"{plan.out.parent}: no such folder; make it first")
        judges, failed = _judges(here, plan, lock)
        jobs = [] if plan.so_far else [_training(run, plan) for run in left]
        failed += run_all(jobs, plan.jobs, THREADS, lock)
        finished = [run for run in here if run.finished]
        evaluations = [_evaluation(run, study, plan, judges) for run in finished]
        if plan.so_far:
            pairs = zip(finished, evaluations, strict=True)
            finished = [run for run, missing in pairs if missing is None]
        else:
            failed += run_all([job for job in evaluations if job], plan.jobs, THREADS, lock)
    known |= {run.name: run.result(study, plan.part, judges) for run in finished}
    measured = [known[run.name] for run in runs if run.name in known]
    results.write(measured, [of for of in earlier if of.seed >= plan.seeds], study, plan, failed)
    click.echo(plan.out)
    if failed:
        raise click.ClickException("\n".join(failed))


def _runs(study: Study, plan: Plan, seed: int) -> list[Run]:
    """The run of every cell with a seed."""
    runs = []
    for cell in study.cells:
        with SequenceFile.open(cell.data) as file:
            model = ModelConfig.preset(cell.preset, frame_shape=file.frame_shape, **cell.model)
            data = dict(file.sequences("train", in_memory=False).origin)
        options = {**cell.training, **dict([plan.budget_of(cell)]), "seed": seed}
        training = TrainingConfig.preset(cell.preset, **options)
        settings = {
            "model": model.to_dict(),
            "training": dataclasses.asdict(training),
            "data": data,
        }
        runs.append(Run(cell, seed, plan.runs / cell.name / f"seed-{seed}", settings))
    return runs


def _how(plan: Plan) -> str:
    device = machine(plan.device)["device"]
    return (
        f"commit {commit()}, torch {torch.__version__}, on {device}, {plan.jobs} side by side with "
        f"{THREADS} thread each"
    )


def _training(run: Run, plan: Plan) -> Job:
    """Train a run, or go on with it."""
    arguments = ["fit", str(run.cell.data), str(run.folder), "--device", str(plan.device)]
    resume = run.started
    if resume:
        arguments += ["--resume"]
    else:
        config = run.folder.parent / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        write_whole(config, run.cell.toml().encode())
        unit, budget = plan.budget_of(run.cell)
        arguments += ["--config", str(config), f"--{unit}", str(budget), "--seed", str(run.seed)]
        arguments += ["--overwrite"]  # what was cut off before it had a first checkpoint
    note = partial(run.note, "trained", _how(plan), afresh=not resume)
    return Job(f"{run.name} trained", arguments, run.log, note)


def _judges(runs: Sequence[Run], plan: Plan, lock: int) -> tuple[dict[Path, str], list[str]]:
    """Train the judges of ``runs`` that are not there.

    Returns how often those to be believed are right, in words, and a line for each other.
    """
    wanted = {run.cell.judge: run.cell.data for run in runs if run.cell.judge}
    jobs = [
        Job(f"judge {path}", ["judge", str(data), str(path)], path.with_suffix(".log"))
        for path, data in wanted.items()
        if not (path.exists() or plan.so_far)
    ]
    failed, believed = run_all(jobs, at_once=1, threads=plan.jobs, lock=lock), {}
    for path in filter(Path.exists, wanted):
        try:
            accuracy = load_judge(path).accuracy
            check_accuracy(accuracy, "its own test part")
            right = ", ".join(f"{head} {value:.2%}" for head, value in accuracy.items())
            believed[path] = f"judge, trained on train, is right on test: {right}"
        except (CheckpointError, JudgeError) as error:
            failed.append(f"{path}: {error}")
    return believed, failed


def _evaluation(run: Run, study: Study, plan: Plan, judges: Mapping[Path, str]) -> Job | None:
    """Measure what is missing of a run; None where nothing is."""
    judged, held = run.cell.judge in judges, run.measured(study, plan.part)[1]
    missing = [s for s in study.sections(run.cell) if s not in held and (s not in JUDGED or judged)]
    if not missing:
        return None
    arguments = ["evaluate", str(run.folder), "--data", str(run.cell.data), "--part", plan.part]
    arguments += ["--only", ",".join(missing), "--device", str(plan.device)]
    if any(section in JUDGED for section in missing):
        arguments += ["--judge", str(run.cell.judge), "--repeats", str(study.repeats)]
    note = partial(run.note, "evaluated", _how(plan))
    return Job(f"{run.name} evaluated", arguments, run.log, note)
