"""A study: models trained under one budget with several seeds, each evaluated, and a page.

A study is a list of cells, each a data file with options. Every cell is trained with every seed by
``dsae fit``, as many side by side as there are ``--jobs``, one thread each; then ``dsae evaluate``
measures every run. The same command goes on where it was cut off: a run half trained is resumed, a
finished one is left, and what was measured of it is not measured again. With nothing left to do it
writes the page alone.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch

from columns import Column
from pages import command, commit, mean_and_sd, table
from pyro_dsae import CheckpointError, ConfigError, ModelConfig, TrainingConfig
from pyro_dsae.checkpoint import write_whole
from pyro_dsae.cli.evaluate import JUDGED
from pyro_dsae.cli.options import device_option, part_option, together
from pyro_dsae.datasets import DataError, SequenceFile
from pyro_dsae.evaluation.judge import JudgeError, check_accuracy, load_judge
from pyro_dsae.evaluation.report import weights_sha256
from pyro_dsae.run_folder import CONFIG, EVALUATION, RunFolder, TrainingError, read_metrics
from side_by_side import Job, alone, run_all

THREADS = 1  # of a run; several runs of one thread use the cores better than one of several
TRAINING = "training"  # the section of what a run's own metrics say
NONE = "—"  # in a table, where there is no figure


@dataclass(frozen=True)
class Cell:
    """What is trained with every seed.

    Args:
        name: of its row, and of the folder of its runs.
        data: the prepared file.
        model: fields of ModelConfig, changes on the preset.
        training: fields of TrainingConfig, changes on the preset.
        preset: where both start.
        judge: what judges it, trained on ``data`` where there is no such file; None for nothing.
        share: of the budget of a run, what its runs get.
    """

    name: str
    data: Path
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "small"
    judge: Path | None = None
    share: float = 1.0

    def toml(self) -> str:
        """Its options as a file for ``dsae fit --config``."""
        lines = [f'preset = "{self.preset}"']
        for name, options in (("model", self.model), ("training", self.training)):
            lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in options.items())]
        return "\n".join([*lines, ""])

    def describe(self) -> str:
        """Its options in words."""
        options = {**self.model, **self.training}.items()
        words = [f"preset {self.preset}", *(f"{key} {value}" for key, value in options)]
        words += [f"{self.share:.0%} of the budget"] if self.share != 1 else []
        return f"`{self.name}`: {', '.join(words)}, on {self.data.name}"


@dataclass(frozen=True)
class Table:
    """A table of the page, with a row for each cell.

    Args:
        title: its heading.
        columns: figures of every run.
        beside: rows that are no runs of the study: a name, and a text for each column.
        about: what stands below, in words.
        cells: names of those it shows; None for all.
    """

    title: str
    columns: Sequence[Column]
    beside: Mapping[str, Sequence[str]] = field(default_factory=dict)
    about: str = ""
    cells: Sequence[str] | None = None

    def shows(self, cell: Cell) -> bool:
        return self.cells is None or cell.name in self.cells


@dataclass(frozen=True)
class Study:
    """What is trained and what is shown of it.

    Args:
        title: of the page.
        about: what it shows, in words.
        cells: names differ.
        tables: what they show is measured, and nothing else.
    """

    title: str
    about: str
    cells: Sequence[Cell]
    tables: Sequence[Table]

    @property
    def sections(self) -> list[str]:
        """The sections of an evaluation that the tables need."""
        needed = dict.fromkeys(column.section for t in self.tables for column in t.columns)
        return [section for section in needed if section != TRAINING]


@dataclass(frozen=True)
class Plan:
    """How a study is carried out: what :func:`plan_options` give."""

    runs: Path
    out: Path
    minutes: float
    epochs: int | None
    seeds: int
    jobs: int
    part: str
    notes: Path | None
    device: torch.device

    @property
    def budget(self) -> tuple[str, float]:
        """Of a run: what it is counted in, and how many."""
        return ("minutes", self.minutes) if self.epochs is None else ("epochs", self.epochs)

    def budget_of(self, cell: Cell) -> tuple[str, float]:
        """Of a run of the cell, likewise; an epoch at least."""
        unit, budget = self.budget
        share = cell.share * budget
        return unit, share if unit == "minutes" else max(1, round(share))

    @property
    def single(self) -> Path:
        """Where the single figures go, beside the page."""
        return self.out.with_suffix(".json")


def plan_options(minutes: float, seeds: int = 3, jobs: int = 2) -> Callable:
    """The arguments and options of a study's command, with its defaults; see :class:`Plan`."""
    folder, file = (
        click.Path(file_okay=dir_okay, dir_okay=not dir_okay, path_type=Path)
        for dir_okay in (False, True)
    )
    count, shown = click.IntRange(min=1), {"show_default": True}
    return together(
        click.argument("runs", type=folder),
        click.argument("out", type=file),
        click.option("--minutes", default=float(minutes), **shown, help="To train each run."),
        click.option("--epochs", type=count, help="Passes over the train part instead."),
        click.option("--seeds", type=count, default=seeds, **shown, help="How many, from 0 on."),
        click.option("--jobs", type=count, default=jobs, **shown, help="Runs side by side."),
        part_option,
        click.option(
            "--notes",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Markdown to put at the end of OUT.",
        ),
        device_option,
    )


judge_option = click.option(
    "--judge",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=lambda context, _, path: path or context.params["runs"] / "judge.safetensors",
    help="Of sprites, trained where it is not there; RUNS/judge.safetensors if left out.",
)


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

    def figures(self, part: str) -> dict[str, dict[str, Any]]:
        """What was measured of its weights on a part, by section."""
        file = self.folder / EVALUATION
        if not file.exists():
            return {}
        report, data = json.loads(file.read_text()), self.settings["data"]["content_sha256"]
        of = report["weights_sha256"], report["data"]["content_sha256"], report["data"]["part"]
        if of != (weights_sha256(self.folder), data, part):
            return {}
        return {name: made["figures"] for name, made in report["sections"].items()}

    def training(self) -> dict[str, float]:
        """What its metrics say of its training."""
        speeds = [epoch["sequences_per_second"] for epoch in read_metrics(self.folder)]
        return {"sequences_per_second": median(speeds)}

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
    try:
        runs = [run for seed in range(plan.seeds) for run in _runs(study, plan, seed)]
        left = [run for run in runs if not run.finished]
    except (ConfigError, DataError, TrainingError) as error:
        raise click.ClickException(str(error)) from None
    with alone(plan.runs) as lock:
        judges, failed = _judges(study, plan, lock)
        failed += run_all([_training(run, plan) for run in left], plan.jobs, THREADS, lock)
        finished = [run for run in runs if run.finished]
        evaluations = (_evaluation(run, study, plan, judges) for run in finished)
        failed += run_all([job for job in evaluations if job], plan.jobs, THREADS, lock)
    measured = [(run, {TRAINING: run.training(), **run.figures(plan.part)}) for run in finished]
    write_whole(plan.single, (json.dumps(_single(study, measured), indent=1) + "\n").encode())
    write_whole(plan.out, _page(study, plan, measured, judges, failed).encode())
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
    return (
        f"commit {commit()}, torch {torch.__version__}, on {plan.device}, {plan.jobs} side by side "
        f"with {THREADS} thread each"
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


def _judges(study: Study, plan: Plan, lock: int) -> tuple[dict[Path, str], list[str]]:
    """Train the judges that are not there.

    Returns how often those to be believed are right, in words, and a line for each other.
    """
    wanted = {cell.judge: cell.data for cell in study.cells if cell.judge}
    jobs = [
        Job(f"judge {path}", ["judge", str(data), str(path)], path.with_suffix(".log"))
        for path, data in wanted.items()
        if not path.exists()
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
    judged, held = run.cell.judge in judges, run.figures(plan.part)
    missing = [s for s in study.sections if s not in held and (s not in JUDGED or judged)]
    if not missing:
        return None
    arguments = ["evaluate", str(run.folder), "--data", str(run.cell.data), "--part", plan.part]
    arguments += ["--only", ",".join(missing), "--device", str(plan.device)]
    if any(section in JUDGED for section in missing):
        arguments += ["--judge", str(run.cell.judge)]
    note = partial(run.note, "evaluated", _how(plan))
    return Job(f"{run.name} evaluated", arguments, run.log, note)


Measured = Sequence[tuple[Run, Mapping[str, Mapping[str, Any]]]]  # runs, with figures by section


def _page(
    study: Study, plan: Plan, measured: Measured, judges: Mapping[Path, str], failed: list[str]
) -> str:
    """The whole Markdown page."""
    lines = [f"# {study.title}", "", study.about, ""]
    lines += [
        f"Mean ± sample standard deviation over n runs that differ in their seed, on the part "
        f"{plan.part}, all of it. Epochs are what each run reached.",
        "",
    ]
    for shown in study.tables:
        rows = [_row(cell, shown.columns, measured) for cell in study.cells if shown.shows(cell)]
        rows += [[name, NONE, NONE, *cells] for name, cells in shown.beside.items()]
        heads = ["cell", "n", "epochs", *(column.head for column in shown.columns)]
        lines += [f"## {shown.title}", "", *table(heads, rows), ""]
        lines += [shown.about, ""] if shown.about else []
    unit, budget = plan.budget
    facts = [
        f"command: `{command()}`",
        f"each run: {budget:g} {unit}; seeds 0 to {plan.seeds - 1}",
        *(cell.describe() for cell in study.cells),
        *_data(measured),
        *judges.values(),
        *(
            f"{done}: {how}"
            for done in ("trained", "evaluated")
            for how in dict.fromkeys(how for run, _ in measured for how in run.record()[done])
        ),
        f"single figures: [{plan.single.name}]({plan.single.name})",
        *failed,
    ]
    lines += ["## How it was made", "", *(f"* {fact}" for fact in facts), ""]
    return "\n".join(lines) + (f"\n{plan.notes.read_text()}" if plan.notes else "")


def _row(cell: Cell, columns: Sequence[Column], measured: Measured) -> list[str]:
    mine = [(run, sections) for run, sections in measured if run.cell == cell]
    epochs = [str(len(read_metrics(run.folder))) for run, _ in mine]
    cells = []
    for column in columns:
        values = [value for _, sections in mine if (value := column.of(sections)) is not None]
        fewer = f" (n = {len(values)})" if len(values) < len(mine) else ""
        cells.append(mean_and_sd(values, column.digits) + fewer if values else NONE)
    return [f"`{cell.name}`", str(len(mine)), ", ".join(epochs) or NONE, *cells]


def _data(measured: Measured) -> list[str]:
    """Which data the figures are of."""
    held = (run.settings["data"] for run, _ in measured)
    return list(dict.fromkeys(f"{d['name']}: content sha256 {d['content_sha256']}" for d in held))


def _single(study: Study, measured: Measured) -> list[dict[str, Any]]:
    """The figures of every run that the tables are made of."""
    return [
        {
            "cell": run.cell.name,
            "seed": run.seed,
            "epochs": len(read_metrics(run.folder)),
            "weights_sha256": weights_sha256(run.folder),
            "figures": {
                shown.title: {column.head: column.of(sections) for column in shown.columns}
                for shown in study.tables
                if shown.shows(run.cell)
            },
        }
        for run, sections in measured
    ]
