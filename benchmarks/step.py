"""How fast a step of training is, beside the machine's peaks, plain PyTorch and public code.

    python benchmarks/step.py docs/speed.md speed.json --threads 2 --peer c-dsvae=DIR

What is compared takes turns, and a figure is the median of the ratios of neighbours. A step is the
trainer's own, with its data path, checks and bookkeeping.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from neighbour import Neighbour
from peaks import peaks
from torch.utils.flop_counter import FlopCounterMode

from pages import command, commit, machine, table
from parts import parts
from peers import FRAMES, PEERS, Peer
from plain import PlainStep, negative_elbo
from pyro_dsae import DSAE, ModelConfig, Sequences, TrainingConfig
from pyro_dsae.checkpoint import write_whole
from pyro_dsae.cli.options import device_option
from pyro_dsae.networks import bfloat16_is_fast
from pyro_dsae.run_folder import versions
from timing import OURS, noise, ratio, take_turns

CASES = (("paper", 8), ("paper", 32), ("small", 8), ("small", 128))  # preset and T
SHORT, LONG = 4, 36  # steps T between which the cost of one is taken
NO_FRAMES = {"frame_shape": (3, 16, 16), "channels": (1, 1, 1, 1)}  # all but the recurrence is free
EPOCHS = 10**6  # the training ends by the clock


def case(
    dsae: DSAE, config: TrainingConfig, steps: int, budget: float, peak: float
) -> dict[str, Any]:
    """A step of ``config`` on sequences of ``steps`` frames, beside the same in plain PyTorch.

    Args:
        budget: seconds to measure for.
        peak: of the convolutions in the precision of ``config``, GFLOP/s.
    """
    sequences = noise(dsae.config, steps, 16 * config.batch_size)
    times = take_turns(
        dsae, sequences, config, {"plain": _plain(dsae, config, sequences)}, 0.7 * budget
    )
    with parts(dsae) as spent:
        whole = take_turns(dsae, sequences, config, {}, 0.3 * budget)[OURS]
    shares = {name: statistics.median(each) for name, each in spent.items()}
    shares["rest"] = max(0.0, statistics.median(whole) - sum(shares.values()))
    median = statistics.median(times[OURS])
    counted = gflop(dsae, steps) * config.batch_size
    return {
        "T": steps,
        "batch": config.batch_size,
        "precision": config.precision,
        "rounds": len(times[OURS]),
        "seconds": median,
        "sequences_per_second": config.batch_size / median,
        "over_plain": ratio(times[OURS], times["plain"]),
        "gflop": counted,
        "fraction_of_peak": counted / median / peak,
        "parts": shares,
        "data_fraction": shares["data"] / sum(shares.values()),
    }


def z_step(guide: str, device: torch.device, budget: float) -> dict[str, Any]:
    """Milliseconds that a z_t costs more in ours than in plain PyTorch, beside almost no frames."""
    config = TrainingConfig.preset("small", epochs=EPOCHS, precision="fp32")
    more = []
    for steps in (SHORT, LONG):
        dsae = DSAE(ModelConfig.preset("small", guide=guide, **NO_FRAMES)).to(device)
        sequences = noise(dsae.config, steps, 16 * config.batch_size)
        plain = {"plain": _plain(dsae, config, sequences)}
        times = take_turns(dsae, sequences, config, plain, budget / 2)
        pairs = zip(times[OURS], times["plain"], strict=True)
        more.append(statistics.median(ours - plain for ours, plain in pairs))
    return {"guide": guide, "milliseconds": 1e3 * (more[1] - more[0]) / (LONG - SHORT)}


def beside(
    name: str,
    peer: Peer,
    device: torch.device,
    batch: int | None,
    budget: float,
    peaks: Mapping[str, Mapping[str, float]],
) -> Iterator[dict[str, Any]]:
    """Our steps beside those of a public implementation, in sequences a second.

    Args:
        batch: sequences a step of both with the same architecture; its own if None.
        peaks: of the machine, in GFLOP/s by precision. What a step is of its own precision's peak
            bounds how many times faster the same operations could be.
    """
    same = batch or peer.batch_size
    best = _precision("auto", device)
    shipped = partial(peer.step, peer.batch_size, device)
    single, half = (partial(peer.one_pass, same, device, bfloat16) for bfloat16 in (False, True))
    for what, precision, ours, theirs, memory_kept in (
        ("as shipped, ours `paper`", best, None, shipped, False),
        ("same architecture", "fp32", peer.ours, single, False),
        ("same architecture", "bf16", peer.ours, half, False),
        ("same architecture and memory", "fp32", peer.ours, single, True),
    ):
        config = TrainingConfig.preset("paper", epochs=EPOCHS, precision=precision)
        if ours is not None:
            config = TrainingConfig(epochs=EPOCHS, precision=precision, batch_size=same)
        batch = peer.batch_size if ours is None else same
        dsae = (DSAE(ModelConfig.preset("paper")) if ours is None else ours()).to(device)
        sequences = noise(dsae.config, FRAMES, 4 * config.batch_size)
        with Neighbour(theirs, device, memory_kept) as step:
            times = take_turns(dsae, sequences, config, {name: step}, budget)
            counted = step.ask(operations)
        faster = ratio(times[name], times[OURS])
        batches = {OURS: config.batch_size, name: batch}
        sizes = config.batch_size / batch
        medians = {whose: statistics.median(each) for whose, each in times.items()}
        work = {OURS: gflop(dsae, FRAMES) * config.batch_size, name: counted}
        precisions = {OURS: precision, name: "fp32" if ours is None else precision}
        yield {
            "peer": name,
            "what": what,
            "precision": precision,
            "batches": batches,
            "rounds": len(times[OURS]),
            "sequences_per_second": {
                whose: batches[whose] / median for whose, median in medians.items()
            },
            "times_faster": {key: value * sizes for key, value in faster.items()},
            "fraction_of_peak": {
                whose: work[whose] / median / peaks[precisions[whose]]["convolution"]
                for whose, median in medians.items()
            },
        }


def gflop(dsae: DSAE, steps: int) -> float:
    """Of a step on one sequence, in its convolutions and matrix products, but for the LSTMs."""
    device = next(dsae.parameters()).device
    x, _ = noise(dsae.config, steps, 1).batch([0], device)
    dsae.use_bfloat16(False)
    counted = operations(lambda: negative_elbo(dsae.train(), x).backward())
    dsae.zero_grad()
    return counted


def operations(run: Callable[[], Any]) -> float:
    """GFLOP of a call, in its convolutions and matrix products, but for the LSTMs."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def page(results: dict[str, Any]) -> str:
    """The whole Markdown page."""
    names = list(results["cases"][0]["parts"])
    return "\n".join(
        [
            "# Speed",
            "",
            "Steps that are compared take turns; a ratio is the median of those of neighbours,",
            "with its quartiles. A step is the trainer's own, data path and checks included, on",
            "the whole recipe of a preset. Operations are counted in convolutions and matrix",
            "products; the peak is the best convolution of this machine by itself, in the",
            "precision of the step.",
            "",
            *table(
                ["GFLOP/s at best", "matmul", "convolution"],
                [
                    [name, f"{rates['matmul']:.0f}", f"{rates['convolution']:.0f}"]
                    for name, rates in results["peaks"].items()
                ],
            ),
            "",
            "## A step, beside the same step in plain PyTorch",
            "",
            "The plain step has the same networks, optimizer and data path, and a loss written by",
            "hand; its gradients are equal, as `test_the_plain_step_has_our_loss_and_gradients`",
            "shows.",
            "",
            *table(
                [
                    "preset",
                    "T",
                    "batch",
                    "precision",
                    "ms",
                    "sequences/s",
                    "GFLOP",
                    "of the peak",
                    "ours / plain",
                ],
                [
                    [
                        f"`{each['preset']}`",
                        str(each["T"]),
                        str(each["batch"]),
                        each["precision"],
                        f"{1e3 * each['seconds']:.1f}",
                        f"{each['sequences_per_second']:.1f}",
                        f"{each['gflop']:.1f}",
                        f"{100 * each['fraction_of_peak']:.0f} %",
                        _ratio(each["over_plain"]),
                    ]
                    for each in results["cases"]
                ],
            ),
            "",
            "A z_t costs so much more in Pyro than in plain PyTorch: "
            + ", ".join(
                f"{each['milliseconds']:.2f} ms with `{each['guide']}`"
                for each in results["z_step"]
            )
            + ".",
            "",
            "## Where the time goes, in ms",
            "",
            *table(
                ["preset", "T", *names, "data path"],
                [
                    [
                        f"`{each['preset']}`",
                        str(each["T"]),
                        *(f"{1e3 * each['parts'][name]:.1f}" for name in names),
                        f"{100 * each['data_fraction']:.1f} %",
                    ]
                    for each in results["cases"]
                ],
            ),
            "",
            *_peers(results["peers"]),
            f"* {results['machine']['device']}, {results['machine']['threads']} threads of "
            f"{results['machine']['cores']} cores, torch {results['versions']['torch']}",
            f"* commit {results['commit']}, command: `{results['command']}`",
            "",
        ]
    )


def _peers(rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    return [
        "## Beside public implementations",
        "",
        "Each from its own checkout and in a process of its own, on frames that are in memory",
        "already, T = 8. As shipped is a step of its own script; with the same architecture, both",
        "take a step on the bound. Our trainer lets its process keep what memory it frees; theirs",
        "do too in the row that says so.",
        "",
        *table(
            [
                "code",
                "what",
                "precision",
                "batch, ours and its",
                "sequences/s, ours and its",
                "of the peak, ours and its",
                "times",
            ],
            [
                [
                    each["peer"],
                    each["what"],
                    each["precision"],
                    " and ".join(map(str, each["batches"].values())),
                    " and ".join(f"{rate:.2f}" for rate in each["sequences_per_second"].values()),
                    " and ".join(
                        f"{100 * fraction:.0f} %" for fraction in each["fraction_of_peak"].values()
                    ),
                    _ratio(each["times_faster"]),
                ]
                for each in rows
            ],
        ),
        "",
        *(
            f"* {name}: {PEERS[name].repository}; as shipped: {PEERS[name].shipped}; the same "
            f"architecture: {PEERS[name].architecture}"
            for name in dict.fromkeys(each["peer"] for each in rows)
        ),
        "",
    ]


def _ratio(found: dict[str, float]) -> str:
    return f"{found['median']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _plain(dsae: DSAE, config: TrainingConfig, sequences: Sequences) -> PlainStep:
    device = next(dsae.parameters()).device
    twin = DSAE(dsae.config).to(device)
    twin.use_bfloat16(config.precision == "bf16")
    return PlainStep(twin, sequences, config)


def _precision(name: str, device: torch.device) -> str:
    return ("bf16" if bfloat16_is_fast(device) else "fp32") if name == "auto" else name


def _peer(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> dict[str, Peer]:
    found = {}
    for value in values:
        name, _, folder = value.partition("=")
        if name not in PEERS or not Path(folder).is_dir():
            raise click.BadParameter(
                f"{value!r} must be NAME=DIR with a folder that is there and a name of: "
                + ", ".join(PEERS)
            )
        found[name] = PEERS[name](Path(folder))
    return found


@click.command()
@click.argument("page_file", metavar="PAGE.md", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("data_file", metavar="OUT.json", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seconds", default=60.0, show_default=True, help="For each comparison.")
@click.option("--threads", type=click.IntRange(min=1), help="Of torch; its own choice if not.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "bf16", "fp32"]),
    default="auto",
    show_default=True,
    help="Of the convolutions.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    callback=_peer,
    metavar="NAME=DIR",
    help=f"Public code to compare with, checked out in DIR: {', '.join(PEERS)}.",
)
@click.option("--peer-batch", type=int, help="Sequences a step with the same architecture.")
@device_option
def main(
    page_file: Path,
    data_file: Path,
    seconds: float,
    threads: int | None,
    precision: str,
    peers: dict[str, Peer],
    peer_batch: int | None,
    device: torch.device,
) -> None:
    """Measure and write PAGE.md and OUT.json."""
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    precision = _precision(precision, device)
    results: dict[str, Any] = {
        "command": command(),
        "commit": commit(),
        "versions": versions(),
        "machine": machine(device),
        "peaks": peaks(device),
        "cases": [],
        "z_step": [],
        "peers": [],
    }
    peak = results["peaks"][precision]["convolution"]
    for preset, steps in CASES:
        config = TrainingConfig.preset(preset, epochs=EPOCHS, precision=precision)
        dsae = DSAE(ModelConfig.preset(preset)).to(device)
        found = case(dsae, config, steps, seconds, peak)
        results["cases"].append({"preset": preset, **found})
        click.echo(f"{preset}, T = {steps}: {_ratio(found['over_plain'])} of plain", err=True)
    results["z_step"] = [z_step(guide, device, seconds) for guide in ("factorized", "full")]
    write_whole(data_file, json.dumps(results, indent=2).encode())
    for name, peer in peers.items():
        try:
            for row in beside(name, peer, device, peer_batch, seconds, results["peaks"]):
                results["peers"].append(row)
                click.echo(f"{name}, {row['what']}: {_ratio(row['times_faster'])} times", err=True)
                write_whole(data_file, json.dumps(results, indent=2).encode())
        except ChildProcessError as error:
            raise click.ClickException(f"{name}: {error}; {data_file} has the rest") from None
    write_whole(page_file, page(results).encode())
    click.echo(page_file)


if __name__ == "__main__":
    main()
