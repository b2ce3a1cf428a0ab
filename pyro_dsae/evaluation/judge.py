"""The judge: a classifier that names the factors of a sequence, trained on real ones.

A generated sequence is scored by what a judge sees in it: the protocol of Li & Mandt (2018) and of
all that came after. One head names the motion, which is the combination of all dynamic factors, and
one head each static factor. Unlike the judges in public use, whose weights are behind dead links,
this one is trained by the user, on the train part alone, and is not believed unless it is right on
the test part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pyro_dsae.analyses.codes import batches
from pyro_dsae.checkpoint import CheckpointError, read_weights, write_weights
from pyro_dsae.networks import (
    FRAME_MULTIPLE,
    BiLSTM,
    ConvEncoder,
    bfloat16_is_fast,
    encoded,
    step_lengths,
)
from pyro_dsae.sequences import Sequences

MOTION = "motion"  # the head of all dynamic factors together
REQUIRED = 0.999  # accuracy on every head, below which a judge is not believed
BATCH = 16  # sequences a step of training
LEARNING_RATE = 1e-3
EPOCHS = 2
VALIDATION = 0.05  # of the groups
CHECKS = 4  # validations a pass; training ends when all of a whole pass were without an error


class JudgeError(ValueError):
    """A judge cannot be trained on these data, does not fit them, or is not to be believed."""


@dataclass(frozen=True)
class JudgeConfig:
    """What a judge looks at and is made of.

    Args:
        frame_shape: (C, H, W) of one frame; H and W are multiples of 16.
        static: how many classes each static factor has, in the order of the labels.
        dynamic: how many classes each dynamic factor has; their product are the motions.
        channels: of the four convolutions; half as many as the field's judges have. On Sprites it
            is as right with a quarter of the work.
        code_dim: size of the code of one frame.
        hidden_dim: size of each direction's recurrent state, and of a head's hidden layer.

    Raises JudgeError when there is no factor of a role, when one has the name of the motion's head,
    or when frame_shape is none such.
    """

    frame_shape: tuple[int, int, int]
    static: Mapping[str, int]
    dynamic: Mapping[str, int]
    channels: tuple[int, int, int, int] = (32, 64, 128, 256)
    code_dim: int = 128
    hidden_dim: int = 256

    def __post_init__(self) -> None:
        # JSON knows no tuples; a config read back must equal the one that was written.
        object.__setattr__(self, "frame_shape", tuple(self.frame_shape))
        object.__setattr__(self, "channels", tuple(self.channels))
        for role in ("static", "dynamic"):
            if not getattr(self, role):
                raise JudgeError(
                    f"the data have no {role} factor with classes, but a judge needs one at least"
                )
        if MOTION in self.static:
            raise JudgeError(
                f"a static factor is named {MOTION!r}, as the head of the dynamic factors is; "
                "give it another name"
            )
        if len(self.frame_shape) != 3 or any(
            side % FRAME_MULTIPLE for side in self.frame_shape[1:]
        ):
            raise JudgeError(
                f"the frames are {self.frame_shape}, but must be (C, H, W) with H and W multiples "
                f"of {FRAME_MULTIPLE}"
            )

    @property
    def heads(self) -> dict[str, int]:
        """How many classes each head tells apart: the motion and every static factor."""
        return {MOTION: math.prod(self.dynamic.values()), **self.static}

    def targets(self, static: np.ndarray, dynamic: np.ndarray) -> dict[str, np.ndarray]:
        """The class that each head should name, int64 (N,), of labels int (N, k) and (N, m).

        Raises JudgeError when the labels are of other factors, or one is unknown.
        """
        for labels, factors in ((static, self.static), (dynamic, self.dynamic)):
            sizes = list(factors.values())
            if labels.shape[1:] != (len(sizes),) or (labels >= sizes).any():
                raise JudgeError(
                    f"the labels are not of the judge's factors, which are {', '.join(factors)}; "
                    "use a judge that dsae judge trained on these data"
                )
            if (labels < 0).any():
                row, column = np.argwhere(labels < 0)[0]
                raise JudgeError(
                    f"{list(factors)[column]} of sequence {row} is unknown, but a judge needs "
                    "every label; make the data again without such sequences"
                )
        motion = np.ravel_multi_index(tuple(dynamic.T), tuple(self.dynamic.values()))
        columns = zip(self.static, static.T.astype(np.int64), strict=True)
        return {MOTION: motion, **dict(columns)}


class Judge(nn.Module):
    """A code for each frame, a bidirectional LSTM, and one head a factor.

    Its last convolution, as large as the grid that four halvings leave, is the linear map at the
    end of :class:`~pyro_dsae.networks.ConvEncoder`. The convolutions compute in bfloat16 where the
    device has instructions for it.

    ``accuracy`` holds what :func:`accuracies` found on the test part, and is saved with the
    weights; empty before.
    """

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.accuracy: dict[str, float] = {}
        self.encoder = ConvEncoder(config.frame_shape, config.channels, config.code_dim)
        self.lstm = BiLSTM(config.code_dim, config.hidden_dim)
        self.heads = nn.ModuleList(  # no dictionary, whose keys cannot be "type" or hold a dot
            nn.Sequential(
                nn.Linear(2 * config.hidden_dim, config.hidden_dim),
                nn.ReLU(),
                nn.Linear(config.hidden_dim, classes),
            )
            for classes in config.heads.values()
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """The logits of every head, (B, classes), of frames and a mask as in :meth:`features`."""
        return self.named(self.features(x, mask))

    def named(self, features: Tensor) -> dict[str, Tensor]:
        """The logits of every head, (B, classes), of what the heads see."""
        heads = zip(self.config.heads, self.heads, strict=True)
        return {name: head(features) for name, head in heads}

    def features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the heads see, (B, 2 hidden_dim), of frames x (B, T, C, H, W) in [0, 1].

        Args:
            mask: bool (B, T), True at the real steps; None for all. No other frame has any effect,
                on batch norm neither.
        """
        self.encoder.bfloat16 = bfloat16_is_fast(x.device)
        lengths = None if mask is None else step_lengths(mask)
        return self.lstm(encoded(self.encoder, x, mask), lengths)[1]


def fused(judge: Judge) -> Judge:
    """A copy for evaluation alone, in a third less time: convolutions do what batch norm did."""
    copy = deepcopy(judge).eval()
    layers: list[nn.Module] = []
    for module in copy.encoder.convolutions:
        if isinstance(module, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], module)
        else:
            layers.append(module)
    copy.encoder.convolutions = nn.Sequential(*layers)
    return copy


def train_judge(
    judge: Judge,
    sequences: Sequences,
    targets: Mapping[str, np.ndarray],
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    on_step: Callable[[float, Tensor], None] = lambda progress, loss: None,
    on_check: Callable[[float, dict[str, float]], None] = lambda passes, accuracy: None,
) -> Judge:
    """Train ``judge`` in place, where it lies, on the train part, and leave it in eval mode.

    Adam with one cycle of the learning rate (Smith 2018). Training ends early when the judge made
    no error on a held-out part of the groups in a whole pass.

    Args:
        sequences: the train part.
        targets: what :meth:`JudgeConfig.targets` made of its labels.
        epochs: passes at most.
        seed: of the held-out part and the order of the data. With the same one, weights come out
            the same.
        on_step: called after each step with the fraction that is done and the loss in nats a
            sequence, summed over the heads; it lies on the device, and reading it waits for it.
        on_check: called after each validation with the passes that are done and each head's
            accuracy.

    Raises JudgeError when the sequences do not fit, or there are too few groups to hold out some.
    """
    check_frames(judge, sequences)
    try:
        held_out = sequences.held_out(VALIDATION, seed)
    except ValueError as error:
        raise JudgeError(str(error)) from None
    validation = sequences.take(held_out)
    expected = {name: values[held_out] for name, values in targets.items()}
    device = next(judge.parameters()).device
    rows = np.flatnonzero(~held_out)
    a_pass = math.ceil(len(rows) / BATCH)
    optimizer = torch.optim.Adam(judge.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=epochs * a_pass
    )
    flawless = 0  # checks without an error, one after the other
    for step, chosen in enumerate(_shuffled(rows, epochs, seed), start=1):
        judge.train()
        x, mask = sequences.batch(chosen, device)
        loss = sum(
            F.cross_entropy(logits, torch.from_numpy(targets[name][chosen]).to(device))
            for name, logits in judge(x, mask).items()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        on_step(step / (epochs * a_pass), loss)
        if step * CHECKS // a_pass > (step - 1) * CHECKS // a_pass:
            accuracy = accuracies(judge, validation, expected)
            on_check(step / a_pass, accuracy)
            flawless = flawless + 1 if min(accuracy.values()) == 1 else 0
            if flawless == min(CHECKS, a_pass):
                break
    return judge.eval()


def _shuffled(rows: np.ndarray, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Batches of the rows, each row once a pass, in an order that depends on seed and pass."""
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(rows)
        yield from (order[chosen] for chosen in batches(len(order), BATCH))


def accuracies(
    judge: Judge, sequences: Sequences, targets: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """The fraction of the sequences that each head names right. Leaves ``judge`` in eval mode."""
    check_frames(judge, sequences)
    judge.eval()
    device = next(judge.parameters()).device
    parts = (sequences.batch(rows, device) for rows in batches(len(sequences)))
    return hits(judged(judge, parts), targets)


@torch.no_grad()
def judged(judge: Judge, parts: Iterator[tuple[Tensor, Tensor | None]]) -> dict[str, Tensor]:
    """The logits of every head, on the CPU, (N, classes), for batches of frames and masks."""
    logits = [{name: rows.cpu() for name, rows in judge(*part).items()} for part in parts]
    return {name: torch.cat([rows[name] for rows in logits]) for name in logits[0]}


def hits(logits: Mapping[str, Tensor], targets: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How often the head names the class in ``targets``, for each head there."""
    return {
        name: float((logits[name].argmax(dim=1).numpy() == expected).mean())
        for name, expected in targets.items()
    }


def check_frames(judge: Judge, sequences: Sequences) -> None:
    """Raise JudgeError when the sequences have other frames than the judge was made for."""
    if sequences.frame_shape != judge.config.frame_shape:
        raise JudgeError(
            f"the frames are {sequences.frame_shape}, but the judge's frame_shape is "
            f"{judge.config.frame_shape}; use a judge that dsae judge trained on these data"
        )


def check_accuracy(accuracy: Mapping[str, float], where: str) -> None:
    """Raise JudgeError unless a judge is at least 99.9 % right on every head.

    Args:
        accuracy: of each head; empty when it was never measured.
        where: what it was measured on, in words.
    """
    if not accuracy:
        raise JudgeError(f"the judge was never tested on {where}, so it is not believed")
    worst = min(accuracy, key=accuracy.__getitem__)
    if accuracy[worst] < REQUIRED:
        raise JudgeError(
            f"the judge names {worst} right in only {100 * accuracy[worst]:.3f} % of {where}, but "
            f"is not believed below {100 * REQUIRED:.1f} %; train one on these data for longer "
            "(dsae judge --epochs)"
        )


def save_judge(judge: Judge, path: str | Path, overwrite: bool = False) -> None:
    """Write ``judge`` to ``path``, a safetensors file with its config, whole or not at all.

    Raises CheckpointError when ``path`` exists and ``overwrite`` is False, or cannot be written.
    """
    about = {"config": asdict(judge.config), "accuracy": judge.accuracy}
    write_weights(path, "judge", judge, about, overwrite)


def load_judge(path: str | Path) -> Judge:
    """The judge that :func:`save_judge` wrote, in eval mode on the CPU.

    Raises CheckpointError when the file is missing, truncated or not a judge of this package.
    """
    about, weights = read_weights(path, "judge")
    try:
        config, accuracy = JudgeConfig(**about["config"]), about["accuracy"]
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{path}: its config is not one of this version; train a judge again with dsae judge"
        ) from None
    with torch.random.fork_rng():  # initial weights must not cost the caller random numbers
        judge = Judge(config)
    try:
        judge.load_state_dict(weights)
    except RuntimeError:
        raise CheckpointError(f"{path}: its weights do not fit the config it carries") from None
    judge.accuracy = accuracy
    return judge.eval()
