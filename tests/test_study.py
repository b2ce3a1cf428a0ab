"""Studies: every cell with every seed, cut off and gone on with, and pages that add up."""

import importlib
import json
import re
import sys
import tomllib
from dataclasses import asdict
from itertools import count
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from conftest import ROOT, few_toy_sprites, write_drawings
from pyro_dsae import load
from pyro_dsae.cli.main import main
from pyro_dsae.config import PRESETS
from pyro_dsae.datasets import Factor, SequenceFile, series
from pyro_dsae.evaluation.bound import BoundScores
from pyro_dsae.evaluation.exact import ExactScores, Origin
from pyro_dsae.evaluation.judge import Judge, JudgeConfig, save_judge
from pyro_dsae.evaluation.judge_scores import Inception, JudgeScores, Row, Spread
from pyro_dsae.evaluation.probes import Leakage, Probes
from pyro_dsae.evaluation.retrieval import Retrieval
from pyro_dsae.evaluation.sample_quality import Quality, SampleQuality
from pyro_dsae.evaluation.verification import Verification
from pyro_dsae.objectives import OBJECTIVES
from pyro_dsae.run_folder import read_config

TINY = {
    "model": {
        "prior": "lstm",
        "channels": (2, 2, 4, 4),
        "code_dim": 8,
        "hidden_dim": 6,
        "static_dim": 4,
        "dynamic_dim": 2,
    },
    "training": {"epochs": 10, "batch_size": 2},
}
DONE = ("trained", "evaluated")
MODULES = tuple(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a module of benchmarks/ as running one would; its presets are tiny meanwhile."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    for name in ("small", "bottleneck", "pairs"):
        monkeypatch.setitem(PRESETS, name, TINY)
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


class Ended:
    """A process that has ended."""

    def __init__(self, returncode: int) -> None:
        self.returncode = returncode

    def poll(self) -> int:
        return self.returncode


@pytest.fixture
def started(benchmark, monkeypatch):
    """Jobs run in this process; their names, in order."""
    names = []

    def start(job, threads, lock):
        names.append(job.name)
        result = CliRunner().invoke(main, list(job.arguments))
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.write_text(result.output)
        return Ended(result.exit_code)

    monkeypatch.setattr(benchmark("side_by_side"), "start", start)
    return names


@pytest.fixture
def data(tmp_path):
    """Grey drawings, which no source renders."""
    x = np.random.default_rng(0).integers(1, 256, (10, 3, 32, 32, 3), dtype=np.uint8)
    labels = np.stack([np.arange(10) % 2, np.arange(10) // 2 % 2], axis=1)
    factors = [Factor("who", "static", ("a", "b")), Factor("what", "dynamic", ("c", "d"))]
    parts = {"train": np.arange(6), "test": np.arange(6, 10)}
    return write_drawings(tmp_path / "drawings.h5", x, labels, factors, parts)


@pytest.fixture
def carry_out(benchmark, data, monkeypatch):
    """Carries out a study of two cells with two seeds in a folder; changes are of its plan."""
    design, columns = benchmark("design"), benchmark("columns")
    shown = [
        columns.Column("ELBO", "bound", columns.at("elbo"), ".6f"),
        columns.Column("swap ratio", "exact", columns.at("swap_ratio")),
    ]
    cells = [
        design.Cell("one", data, {"guide": "framewise"}),
        design.Cell("two", data, {"prior": "standard", "scale": 0.25}, {"learning_rate": 0.01}),
    ]
    made = design.Study("Two cells", "Of no use.", cells, [design.Table("The bound", shown)])
    monkeypatch.setattr("sys.argv", ["benchmarks/two_cells.py", "runs", "page.md"])

    def call(folder: Path, **changes) -> str:
        plan = {"runs": folder, "out": folder / "page.md", "minutes": 1.0, "epochs": 1, "seeds": 2}
        plan |= {"jobs": 2, "part": "test", "notes": None, "device": torch.device("cpu")}
        whole = benchmark("plan").Plan(**plan | changes)
        benchmark("study").carry_out(made, whole)
        return whole.out.read_text()

    return call


def test_the_options_of_a_cell_as_a_file_and_in_words(benchmark, tmp_path):
    training = {"objective": "agreement", "objective_options": {"weight": 0.02}}
    cell = benchmark("design").Cell("one", tmp_path / "a.h5", {"guide": "full"}, training)
    options = {"preset": "small", "model": {"guide": "full"}, "training": training}
    assert tomllib.loads(cell.toml()) == options
    words = "`one`: preset small, guide full, objective agreement, weight 0.02, on a.h5"
    assert cell.describe() == words


def test_a_cell_needs_the_figures_of_its_own_tables_alone(benchmark, tmp_path):
    design, columns = benchmark("design"), benchmark("columns")
    one, two = (design.Cell(name, tmp_path / "a.h5") for name in ("one", "two"))
    tables = [
        design.Table("", [columns.Column("", section, columns.at(key))], cells=[cell.name])
        for cell, section, key in [
            (one, "codes", "eer"),
            (two, "codes", "mig"),
            (two, "bound", "k"),
        ]
    ]
    study, held = design.Study("", "", [one, two], tables), {"codes": {"eer": 0.1}}
    assert study.sections(one) == ["codes"] and study.sections(two) == ["codes", "bound"]
    assert study.readable(one, held) == ["codes"] and study.readable(two, held) == []


def rows(page: str) -> dict[str, list[str]]:
    """The cells of each row of a page, by the row's name; of its first table."""
    found = {}
    for line in page.splitlines():
        name, *cells = re.split(r"(?<!\\)\|", line.strip("| ")) if line.startswith("| ") else [""]
        found.setdefault(name.strip(" `"), [cell.strip() for cell in cells])
    return found


def elbo(run: Path) -> float:
    report = json.loads((run / "evaluation.json").read_text())
    return report["sections"]["bound"]["figures"]["elbo"]


def test_the_spread_is_that_of_a_sample(benchmark):
    pages = benchmark("pages")
    assert pages.mean_and_sd([1.0, 2.0, 4.0], ".3f") == "2.333 ± 1.528"  # sqrt(7 / 3)
    assert pages.mean_and_sd([2.0], ".1f") == "2.0"
    assert pages.mean_and_se([1.0, 2.0, 4.0], ".3f") == "+2.333 ± 0.882"  # sqrt(7 / 9)
    assert pages.mean_and_se([-2.0], ".1f") == "-2.0"
    assert pages.table(["H(y|x)"], [["1"]]) == [r"| H(y\|x) |", "| --- |", "| 1 |"]


def test_a_table_against_a_cell_is_of_differences_seed_by_seed(benchmark, tmp_path, monkeypatch):
    design, columns, results = (benchmark(name) for name in ("design", "columns", "results"))
    shown = [columns.Column(name, "bound", columns.at(name), ".1f") for name in ("a", "b")]
    cells = [design.Cell(name, tmp_path / "a.h5") for name in ("base", "other")]
    study = design.Study("", "", cells, [design.Table("", shown, against="base")])
    figures = {
        ("base", 0): {"a": 10.0, "b": 5.0},
        ("base", 1): {"a": 20.0, "b": None},
        ("other", 0): {"a": 11.0, "b": 3.0},
        ("other", 1): {"a": 23.0, "b": 4.0},
        ("other", 2): {"a": 90.0, "b": 90.0},  # of no base
    }
    made = [
        results.Result(
            *(cell, seed, "test", {}, {"name": "a", "content_sha256": "", "sequences": 1}, 1, ""),
            *([], [], None, {"": of}),
        )
        for (cell, seed), of in figures.items()
    ]
    monkeypatch.setattr("sys.argv", ["study.py"])
    plan = SimpleNamespace(out=tmp_path / "page.md", single=tmp_path / "page.json", notes=None)
    plan.part, plan.seeds, plan.budget = "test", 3, ("epochs", 1)
    results.write(made, [], study, plan, [])
    found = rows(plan.out.read_text())
    assert "base" not in found
    assert found["other"] == ["3", "1, 1, 1", "+2.0 ± 1.0 (n = 2)", "-2.0 (n = 1)"]


def test_every_cell_is_trained_with_every_seed_and_the_page_adds_up(
    benchmark, carry_out, started, tmp_path, data
):
    folder = tmp_path / "runs"
    page = carry_out(folder)
    trained = [f"{cell} seed {seed} trained" for seed in (0, 1) for cell in ("one", "two")]
    assert started == [*trained, *(name.replace("trained", "evaluated") for name in trained)]
    single = json.loads((folder / "page.json").read_text())
    assert [(run["cell"], run["seed"]) for run in single] == [
        (cell, seed) for seed in (0, 1) for cell in ("one", "two")
    ]
    for cell in ("one", "two"):
        a, b = (elbo(folder / cell / f"seed-{seed}") for seed in (0, 1))
        assert a != b
        mean, sd = (a + b) / 2, abs(a - b) / 2**0.5
        assert rows(page)[cell] == ["2", "1, 1", f"{mean:.6f} ± {sd:.6f}", "—"]
        figures = [run["figures"]["The bound"] for run in single if run["cell"] == cell]
        assert figures == [{"ELBO": elbo, "swap ratio": None} for elbo in (a, b)]
    one, two = (load(folder / cell / "seed-1").config for cell in ("one", "two"))
    assert (one.guide, one.prior, two.guide, two.prior, two.scale) == (
        *("framewise", "lstm"),
        *("factorized", "standard", 0.25),
    )
    for fact in ("`python benchmarks/two_cells.py runs page.md`", "1 epochs; seeds 0 to 1"):
        assert fact in page
    processor = benchmark("pages").machine(torch.device("cpu"))["device"]
    for done in DONE:
        made = rf"{done}: commit \S+, torch {re.escape(torch.__version__)}, on (.+), 2 side by side"
        assert re.search(made + " with 1 thread each", page)[1] == processor

    (tmp_path / "notes.md").write_text("## What it means\n\nNothing.\n")
    again = carry_out(folder, notes=tmp_path / "notes.md")
    assert again == page + "\n## What it means\n\nNothing.\n"
    assert carry_out(folder) == page and len(started) == 8  # no job since


def test_a_failed_run_is_named_and_goes_on_where_it_was(carry_out, started, tmp_path, monkeypatch):
    whole = carry_out(tmp_path / "whole", epochs=2)
    del started[:]

    with monkeypatch.context() as patched:

        def stop(progress, metrics):
            if len(started) == 1:
                raise OSError("the disk is gone")

        patched.setattr("pyro_dsae.cli.fit._Progress.epoch", stop)
        log = tmp_path / "cut" / "one" / "seed-0.log"
        with pytest.raises(click.ClickException, match="one seed 0 trained failed, see .*log") as e:
            carry_out(tmp_path / "cut", epochs=2)
    assert e.value.exit_code == 1 and "two" not in e.value.message
    assert str(log) in e.value.message and "the disk is gone" in log.read_text()
    page = (tmp_path / "cut" / "page.md").read_text()
    assert rows(page)["one"][:2] == ["1", "2"] and rows(page)["two"][:2] == ["2", "2, 2"]
    assert f"* one seed 0 trained failed, see {log}" in page
    assert len(started) == 4 + 3

    assert carry_out(tmp_path / "cut", epochs=2).replace("cut", "whole") == whole
    assert started[7:] == ["one seed 0 trained", "one seed 0 evaluated"]
    runs = [tmp_path / name / "one" / "seed-0" for name in ("whole", "cut")]
    a, b = (load(run).state_dict() for run in runs)
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_a_study_that_is_stopped_goes_on(carry_out, benchmark, started, tmp_path, monkeypatch):
    side_by_side = benchmark("side_by_side")
    start = side_by_side.start

    def stop(job, threads, lock):
        if len(started) == 3:
            raise KeyboardInterrupt
        return start(job, threads, lock)

    with monkeypatch.context() as patched:
        patched.setattr(side_by_side, "start", stop)
        with pytest.raises(KeyboardInterrupt):
            carry_out(tmp_path, jobs=1)
    assert not (tmp_path / "page.md").exists()
    carry_out(tmp_path, jobs=1)
    assert started[:4] == [f"{c} seed {s} trained" for s in (0, 1) for c in ("one", "two")]
    assert len(started) == 8


def test_runs_of_other_options_are_refused(carry_out, started, tmp_path):
    page = carry_out(tmp_path, seeds=1)
    with pytest.raises(click.ClickException, match=r"training epochs=1, not 2; .*another folder"):
        carry_out(tmp_path, seeds=1, epochs=2)
    assert len(started) == 4 and (tmp_path / "page.md").read_text() == page


def test_the_page_of_what_there_is_so_far_trains_nothing(carry_out, started, tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "kept.md"
    page = carry_out(runs, seeds=1, out=out)
    rmtree(runs / "two")
    out.with_suffix(".json").unlink()
    (runs / "one" / "seed-0" / "evaluation.json").rename(tmp_path / "evaluation.json")
    found = rows(carry_out(runs, so_far=True, out=out))
    assert found["one"] == found["two"] == ["0", "—", "—", "—"]
    (tmp_path / "evaluation.json").rename(runs / "one" / "seed-0" / "evaluation.json")
    found = rows(carry_out(runs, so_far=True, out=out))
    assert found["one"] == rows(page)["one"] and found["two"] == ["0", "—", "—", "—"]
    assert len(started) == 4


def test_figures_beside_the_page_stand_in_for_runs_that_are_gone(carry_out, started, tmp_path):
    first, then, out = tmp_path / "first", tmp_path / "then", tmp_path / "kept.md"
    carry_out(first, seeds=1, out=out)
    page = carry_out(then, out=out)  # as on another machine: seed 0 is known
    assert started[4:] == [f"{c} seed 1 {done}" for done in DONE for c in ("one", "two")]
    assert not (then / "one" / "seed-0").exists()
    assert page == carry_out(tmp_path / "nowhere", out=out) and len(started) == 8
    whole = carry_out(tmp_path / "afresh")
    assert len(started) == 16
    assert page == whole.replace("(page.json)", "(kept.json)").replace("[page.json]", "[kept.json]")


def test_a_page_of_fewer_seeds_keeps_the_figures_of_the_others(carry_out, started, tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "kept.md"
    page = carry_out(runs, out=out)
    assert carry_out(runs, seeds=1, out=out) != page
    single = json.loads(out.with_suffix(".json").read_text())
    assert [(run["cell"], run["seed"]) for run in single] == [
        (cell, seed) for seed in range(2) for cell in ("one", "two")
    ]
    assert carry_out(tmp_path / "nowhere", out=out) == page and len(started) == 8


@pytest.mark.parametrize(
    "change",
    [
        {"part": "validation"},
        {"settings": {"model": {"scale": 0.125}, "training": {}}},
        {"settings": {"model": {"of_old": 1}, "training": {}}},
        {"data": {"name": "drawings", "content_sha256": "another"}},
        {"figures": {"The bound": {"ELBO": 0.0}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_figures_of_something_else_do_not_stand_in(carry_out, started, tmp_path, change):
    out = tmp_path / "kept.md"
    carry_out(tmp_path / "first", seeds=1, out=out)
    single = json.loads(out.with_suffix(".json").read_text())
    single[1] |= change
    out.with_suffix(".json").write_text(json.dumps(single))
    carry_out(tmp_path / "then", seeds=1, out=out)
    assert started[4:] == ["two seed 0 trained", "two seed 0 evaluated"]


def test_a_file_that_holds_no_figures_stays_as_it_is(carry_out, started, tmp_path):
    (tmp_path / "page.json").write_text('[{"cell": "one"}]')
    with pytest.raises(click.ClickException, match="page.json: holds no figures of a study; give"):
        carry_out(tmp_path)
    assert started == [] and (tmp_path / "page.json").read_text() == '[{"cell": "one"}]'


def test_a_study_refuses_what_it_could_not_write_or_read_before_the_work(
    carry_out, started, tmp_path
):
    with pytest.raises(click.ClickException, match="nowhere: no such folder; make it first"):
        carry_out(tmp_path / "runs", out=tmp_path / "nowhere" / "page.md")
    assert started == []
    carry_out(tmp_path / "runs", seeds=1)
    evaluation = tmp_path / "runs" / "one" / "seed-0" / "evaluation.json"
    report = evaluation.read_text()
    evaluation.write_text("{}")
    with pytest.raises(click.ClickException, match=r"evaluation.json: is damaged; remove it"):
        carry_out(tmp_path / "runs", seeds=2)
    assert len(started) == 4
    # A section of a release that did not measure all of it yet is measured again.
    evaluation.write_text(report.replace('"elbo"', '"another"'))
    carry_out(tmp_path / "runs", seeds=1)
    assert started[4:] == ["one seed 0 evaluated"]


def test_a_folder_is_locked_while_a_command_that_a_study_started_is_at_work(benchmark, tmp_path):
    side_by_side = benchmark("side_by_side")
    job = side_by_side.Job("waits", ["info", "nowhere"], tmp_path / "log")
    with side_by_side.alone(tmp_path) as lock:
        process = side_by_side.start(job, 1, lock)
    try:  # this process holds it no more, as if it had been killed
        with pytest.raises(click.ClickException, match="at work here; wait for it"):
            with side_by_side.alone(tmp_path):
                pass
    finally:
        process.kill()
        process.wait()
    with side_by_side.alone(tmp_path):
        pass


def test_an_interrupt_ends_the_commands_with_a_checkpoint(benchmark, data, tmp_path, monkeypatch):
    side_by_side, run = benchmark("side_by_side"), tmp_path / "run"
    fit = ["fit", str(data), str(run), "--minutes", "5", "--batch-size", "2"]

    def interrupt(seconds):
        if (run / "metrics.jsonl").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(side_by_side.time, "sleep", interrupt)
    with side_by_side.alone(tmp_path) as lock, pytest.raises(KeyboardInterrupt):
        jobs = [side_by_side.Job(name, fit, tmp_path / "log") for name in ("first", "second")]
        side_by_side.run_all(jobs, 1, 1, lock)
    log = (tmp_path / "log").read_text()
    assert "stopped by SIGTERM" in log and "--resume" in log and log.count("$ dsae fit") == 1


HEADS = {"motion": 9, "body": 6, "bottomwear": 6, "topwear": 6, "hair": 6}


def judged() -> JudgeScores:
    """What a judge may say of sprites."""
    place = count(1)  # no two figures are equal

    def motion() -> dict[str, Spread]:
        return {"motion": Spread(0.5 + next(place) / 100, 0.1)}

    def content() -> dict[str, Spread]:  # their mean goes up by .01 each time, from .01 on
        at = 10 * next(place)
        return {head: Spread((at + 2 * n - 5) / 1000, 0.1) for n, head in enumerate(HEADS) if n}

    each = [Row(motion(), content()), Row(content(), motion())]
    each.append(Row(motion() | content(), motion() | content()))
    spreads = (Spread(value, 0.0) for value in (0.9073, 8.384, 0.072, 2.192))
    seen = [Row(motion() | content(), {}) for _ in range(2)]
    unseen = [Row({}, motion() | content()) for _ in range(2)]
    floors = {head: 1 / classes for head, classes in HEADS.items()}
    return JudgeScores(27, 5, floors, *each, Inception(*spreads), Spread(0.95, 0.0), *seen, *unseen)


def canned() -> dict:
    """Sections of an evaluation of sprites that take long to measure."""
    origin = {"action": Origin(0.875, 0.125, 18), "direction": Origin(0.75, 0.25, 18)}
    exact = ExactScores(0.002, 27.0, 0.003, 25.2, 1.5, 0.75, 0.25, 0.0, origin, 27)
    found = Retrieval(0.625, dict.fromkeys(["body", "action"], 0.5), 108, 27)
    leaks = Leakage(0.1, 0.2, 0.3), Leakage(0.4, 0.6, 0.5)
    roles = dict.fromkeys([*HEADS][1:], "static") | {"action": "dynamic", "direction": "dynamic"}
    names = [
        f"{role} {name} from {code}" for name, role in roles.items() for code in ("f", "mean_z")
    ]
    read = {name: {"nats": n / 10} for n, name in enumerate(names)}
    codes = {
        "probes": {**asdict(Probes(81, 81, 27, [], [], *leaks)), "accuracy": read},
        "verification": asdict(Verification(27, 351, 108, 0.1, 0.5, {})),
    }
    one = Quality(1.0, 0.5, 0.25, 0.9)
    bound = BoundScores(27, -105.0, -100.0, 3.0, 2.0, 4, 2, 27, 64, -104.0, 0.5, 1.0, 0.1)
    return {
        "exact": {**asdict(exact), "retrieval": asdict(found)},
        "codes": codes,
        "bound": asdict(bound),
        "judge": asdict(judged()),
        "samples": asdict(SampleQuality(27, 3, one, Quality(2.0, 0.4, 0.2, 0.8), one)),
    }


@pytest.fixture
def known(started, benchmark, monkeypatch):
    """Commands train, but know what they would measure of sprites."""
    side_by_side = benchmark("side_by_side")
    start = side_by_side.start

    def know(job, threads, lock):
        command, path, out, *_ = job.arguments
        if command == "judge":
            judge = Judge(JudgeConfig((3, 64, 64), {"body": 6}, {"action": 9}, (2, 2, 2, 2), 4, 4))
            judge.accuracy = dict.fromkeys(HEADS, 1.0)
            save_judge(judge, out)
            return Ended(0)
        if command == "fit":
            return start(job, threads, lock)
        only = job.arguments[job.arguments.index("--only") + 1].split(",")
        result = CliRunner().invoke(main, ["evaluate", path, "--only", "similarity"])
        assert result.exit_code == 0, result.output
        report = json.loads((Path(path) / "evaluation.json").read_text())
        figures = canned()
        report["sections"] |= {k: {"figures": figures[k]} for k in only if k in figures}
        (Path(path) / "evaluation.json").write_text(json.dumps(report))
        return Ended(0)

    monkeypatch.setattr(side_by_side, "start", know)


def answer(module, *arguments) -> str:
    result = CliRunner().invoke(module.main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return Path(result.stdout.strip()).read_text()


def test_the_study_of_sprites_has_every_guide_and_prior_beside_the_published(
    known, benchmark, data, tmp_path
):
    budget = ["--epochs", 1, "--seeds", 1]
    out = tmp_path / "results.md"
    page = answer(benchmark("sprites_study"), data, tmp_path / "runs", out, *budget)
    cells = [f"{g}-{p}" for g in ("full", "factorized", "framewise") for p in ("standard", "lstm")]
    assert [name for name in rows(page) if name in cells] == cells
    first = rows(page)["full-standard"]
    assert first == "1 1 0.00200 0.00300 1.500 0.750 0.625 0.550 0.060 0.120".split()
    assert page.count("published, not measured here") == 5 + 1
    dsvae = next(cells for name, cells in rows(page).items() if name.startswith("DSVAE"))
    assert dsvae == ["—", "—", "90.73", "8.384", "0.072", "2.192"]
    assert "| `full-standard` | 1 | 1 | 90.73 | 8.384 | 0.072 | 2.192 |" in page
    for figures in (
        "0.020 0.030 0.540 0.570 0.080 0.590 0.100 0.630 0.140 0.650 0.160 0.950",  # both sides
        "0.875 0.125 0.750 0.250",  # whose action and direction
        "0.200 0.300 0.100 0.600 0.500 0.400 0.100 0.500",  # leakage and verification
        "-105.0 -100.0 3.0 2.0 4.0 2.0 1.0",
    ):
        assert f"| `full-lstm` | 1 | 1 | {figures.replace(' ', ' | ')} |" in page
    assert re.search(r"^\| collapsed \| — \| — \| 0\.", page, re.MULTILINE)
    assert not re.search(r"^\| `.*—", page, re.MULTILINE)
    assert "judge, trained on train, is right on test: motion 100.00%" in page
    with SequenceFile.open(data) as file:
        assert f"drawings: content sha256 {file.content_sha256}" in page


def test_a_collapsed_stand_in_has_ratio_1_and_shows_bs_motion_by_chance(
    benchmark, tmp_path, monkeypatch
):
    data = few_toy_sprites(tmp_path / "toy.h5", monkeypatch)
    stand_ins, columns = (benchmark(name) for name in ("stand_ins", "columns"))
    shown = (*columns.EXACT, *columns.JUDGED_SWAPS)
    cells = stand_ins.row(stand_ins.Collapsed.on(data), data, "test", shown)
    found = {column.head: cell for column, cell in zip(shown, cells, strict=True)}
    assert float(found["swap ratio"]) == pytest.approx(1, abs=0.05)  # of 27 pairs
    assert float(found["near_B"]) < 0.2 and float(found["exact retrieval"]) < 0.1
    assert found["judge: motion of the swap"] == "—"


def test_the_study_of_the_recipe_judges_sprites_alone(known, benchmark, data, tmp_path):
    call = [data] * 3 + [tmp_path / "runs", tmp_path / "page.md", "--epochs", 1, "--seeds", 2]
    found = rows(answer(benchmark("recipe_study"), *call))
    assert found["small"][2:] == [  # the last, minutes, are next to nothing
        f"{value} ± {0:.{max(0, len(value) - 2)}f}"
        for value in "0.00200 0.00300 1.500 0.750 0.625 0.550 0.060 0.120 0.059 0".split()
    ]
    assert found["bottleneck"] == found["pairs"] == found["small"]
    for name in ("small-moving-shapes", "small-toy-sprites"):
        assert found[name] == [*found["small"][:7], "—", "—", "—", "—", "0 ± 0"]
    config = load(tmp_path / "runs" / "small-moving-shapes" / "seed-0").config
    assert config.dynamic_view == "blurred"


def test_the_study_of_objectives_trains_each_by_its_defaults(known, benchmark, data, tmp_path):
    call = [data, tmp_path / "runs", tmp_path / "page.md", "--epochs", 1, "--seeds", 1]
    page = answer(benchmark("objectives_study"), *call)
    for name, objective in OBJECTIVES.items():
        assert f"| `{name}` | 1 | 1 | 1.00 | 0.500 | 0.250 | 0.900 | 2.00 |" in page
        made = read_config(tmp_path / "runs" / name / "seed-0")
        training = {"objective": name, **objective.defaults.get("training", {})}
        assert made["training"] == made["training"] | training
        model = {"dynamic_view": "none", "static_dropout": 0, **objective.defaults.get("model", {})}
        assert made["model"] == made["model"] | model
    assert load(tmp_path / "runs" / "avb" / "seed-0").config.noise_dim == 16
    made, aae = (read_config(tmp_path / "runs" / name / "seed-0") for name in ("aae-pairs", "aae"))
    assert made["model"] == aae["model"] | {"static_view": "partner"}
    assert made["training"] == aae["training"]
    speeds = [run["figures"]["Speed"] for run in json.loads((tmp_path / "page.json").read_text())]
    assert len(speeds) == 2 + len(OBJECTIVES)
    for speed in speeds:
        per_step = speed["sequences a second"] * speed["a step, ms"] / 1000
        assert per_step == pytest.approx(made["training"]["batch_size"])


def test_the_study_of_what_keeps_the_codes_apart_has_nats_and_a_picture(
    known, benchmark, data, tmp_path, monkeypatch
):
    study = benchmark("apart_study")
    monkeypatch.setattr(study, "picture", lambda folders, *_: " ".join(map(str, folders)).encode())
    runs = tmp_path / "runs"
    page = answer(study, data, runs, tmp_path / "apart.md", "--epochs", 1)
    assert rows(page)["small"][:2] == ["1", "1"]  # one seed
    read = " | ".join(f"{n / 10:.2f}" for n in range(12))
    for cell in study.MODELS:
        assert f"| `{cell}` | 1 | 1 | {read} |" in page
    plain = load(runs / "plain-elbo" / "seed-0").config
    assert (plain.dynamic_view, plain.static_dropout) == ("none", 0)
    assert f"`{runs / 'swaps.png'}`" in page
    drawn = (runs / "swaps.png").read_text()
    assert drawn == " ".join(str(runs / cell / "seed-0") for cell in study.MODELS)


def test_the_picture_of_the_codes_says_what_judge_and_pixels_say(
    benchmark, data, tmp_path, monkeypatch
):
    study, drawn = benchmark("apart_study"), {}
    truth = np.random.default_rng(1).integers(0, 256, (study.PAIRS, 3, 32, 32, 3), dtype=np.uint8)
    monkeypatch.setattr(study, "renderer", lambda file: SimpleNamespace(render=lambda _: truth))
    swaps = {"right": truth, "grey": np.full_like(truth, 128)}
    models = []
    for name in swaps:
        models.append(tmp_path / name / "seed-0")
        call = ["fit", str(data), str(models[-1]), "--epochs", "1"]
        assert CliRunner().invoke(main, call).exit_code == 0
    left = iter(swaps.values())
    monkeypatch.setattr(study, "swap", lambda *_: next(left))
    monkeypatch.setattr(study, "sheet", lambda title, blocks: drawn.update(blocks=blocks))
    monkeypatch.setattr(study, "png", lambda _: b"")
    judge = Judge(JudgeConfig((3, 32, 32), {"who": 2}, {"what": 2}, (2, 2, 2, 2), 4, 4)).eval()
    plan = SimpleNamespace(part="test", device=torch.device("cpu"))
    study.picture(models, data, judge, plan)
    assert len(drawn["blocks"]) == study.PAIRS
    for n, block in enumerate(drawn["blocks"]):
        *ends, true, right, grey = block.rows
        assert [len(row.frames) for row in ends] == [3, 3] and (true.frames == truth[n]).all()
        assert right.label == "right\nMSE 0.0000; judge:\nright motion, 1 of 1\nattributes"
        assert (grey.frames == 128).all() and "MSE 0.0000" not in grey.label


def write_series(path, factors, channels) -> Path:
    """Series of 1 to 4 steps, the mean of which gives the class of every factor away."""
    classes = np.stack([np.arange(32) // 2**n % 2 for n in range(len(factors))], axis=1)
    random = np.random.default_rng(0)
    level = np.resize(classes.T, (channels, 32)).T[:, None]  # (32, 1, channels)
    x = level + 0.01 * random.standard_normal((32, 4, channels))
    return series.write(
        path,
        [values[: 1 + n % 4] for n, values in enumerate(x)],
        ids=[str(n) for n in range(32)],
        channels=[f"channel {n}" for n in range(channels)],
        labels=classes,
        factors=[Factor(name, role, ("a", "b")) for name, role in factors.items()],
        groups=np.arange(32),
        splits={"official": {"train": np.arange(24), "test": np.arange(24, 32)}},
        **{name: "none" for name in ("name", "source", "licence", "attribution", "citation")},
        recipe={},
    )


def test_the_study_of_series_stands_beside_the_data_themselves(started, benchmark, tmp_path):
    vowels = write_series(tmp_path / "vowels.h5", {"speaker": "static"}, 3)
    roles = {"subject": "static", "side": "static", "exercise": "dynamic"}
    watch = write_series(tmp_path / "watch.h5", roles, 6)
    out = tmp_path / "page.md"
    call = [vowels, watch, tmp_path / "runs", out, "--epochs", 1, "--seeds", 1]
    page = answer(benchmark("series_study"), *call)
    first, second = page.split("## Watch")
    assert "`watch" not in first.split("##")[1]
    assert "| the data themselves | — | — | 0.0 | 0.0 | 100.0 | 100.0 |" in first
    for name in ("watch", "watch-pairs"):
        assert rows(second)[name][:2] == ["1", "1"] and "—" not in rows(second)[name]
    for name, epochs in (("japanese-vowels", "4"), ("japanese-vowels-pairs", "2")):
        assert rows(first)[name][:2] == ["1", epochs] and "—" not in rows(first)[name]
        assert name not in rows(second)
    pairs = read_config(tmp_path / "runs" / "watch-pairs" / "seed-0")
    assert pairs["model"]["dynamic_view"] == "worn"
    assert pairs["training"]["objective_options"] == {"weight": 0.02}


def test_a_judge_that_is_not_believed_is_named_and_the_rest_is_measured(
    known, benchmark, data, tmp_path, monkeypatch
):
    monkeypatch.setattr("pyro_dsae.evaluation.judge.REQUIRED", 1.1)
    call = [data] * 3 + [tmp_path / "runs", tmp_path / "page.md", "--epochs", 1, "--seeds", 1]
    result = CliRunner().invoke(benchmark("recipe_study").main, [str(word) for word in call])
    assert result.exit_code == 1 and "is not believed" in result.stderr.splitlines()[-1]
    small = rows((tmp_path / "page.md").read_text())["small"]
    assert small[2:] == [*"0.00200 0.00300 1.500 0.750 0.625".split(), "—", "—", "—", "—", "0"]
