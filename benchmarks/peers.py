"""Public implementations, imported at run time from where the user has checked them out.

Nothing of theirs is here: what an adapter knows are the names it calls.
"""

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_dsae import DSAE, ModelConfig
from pyro_dsae.networks import SLOPE, FrameNetwork

FRAMES, SIDE, SEQUENCES = 8, 64, 9000  # of Sprites, which both train on


class Peer:
    """A public implementation in a folder.

    repository: where it is from. batch_size: of its own script. shipped: what a step of its own
    script does. architecture: how its own network is built from our parts.
    """

    repository: str
    batch_size: int
    shipped: str
    architecture: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def step(self, batch: int, device: torch.device) -> Callable[[], Any]:
        """A step of training as its script takes it, on frames that are there already."""
        raise NotImplementedError

    def one_pass(self, batch: int, device: torch.device, bfloat16: bool) -> Callable[[], Any]:
        """A step on the bound alone, frames through its network once, in this precision."""
        raise NotImplementedError

    def ours(self) -> DSAE:
        """Our program with its architecture."""
        raise NotImplementedError

    def module(self, name: str, *needed: str) -> ModuleType:
        """Its module of this name; click.ClickException where that lacks what is needed."""
        path = self.folder / f"{name}.py"
        try:
            found = importlib.util.spec_from_file_location(f"peer_{name}", path)
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
        except Exception as error:  # it is any code
            raise click.ClickException(f"{path}: cannot be imported ({error!r})") from error
        for each in needed:
            if not hasattr(module, each):
                raise click.ClickException(
                    f"{path}: has no {each}; expected a checkout of {self.repository}"
                )
        return module


class Yatindandi(Peer):
    """The later public code of one of the paper's authors."""

    repository = "github.com/yatindandi/Disentangled-Sequential-Autoencoder"
    batch_size = 25
    shipped = "one pass, float32"
    architecture = "5x5 convolutions with its strides, passed to DSAE as encoder and decoder"

    def step(self, batch: int, device: torch.device) -> Callable[[], Any]:
        return self.one_pass(batch, device, bfloat16=False)

    def one_pass(self, batch: int, device: torch.device, bfloat16: bool) -> Callable[[], Any]:
        network = self.module("model", "DisentangledVAE").DisentangledVAE(
            f_dim=256, z_dim=32, step=256, factorised=True, frames=FRAMES, device=device
        )
        x = torch.rand(batch, FRAMES, 3, SIDE, SIDE, device=device)

        def loss() -> Tensor:
            f_mean, f_logvar, _, mean, logvar, _, prior_mean, prior_logvar, means = network(x)
            return bound(x, means, (f_mean, f_logvar), (mean, logvar), (prior_mean, prior_logvar))

        return training(network.to(device).train(), loss, 2e-4, bfloat16)

    def ours(self) -> DSAE:
        config = ModelConfig(
            guide="framewise",
            prior="lstm",
            static_dim=256,
            dynamic_dim=32,
            code_dim=2048,
            hidden_dim=512,
        )
        return DSAE(config, encoder=WideEncoder(), decoder=WideDecoder(256 + 32))


class CDSVAE(Peer):
    """Contrastive DSVAE, Bai, Wang & Gomes (2021)."""

    repository = "github.com/JunwenBai/C-DSVAE"
    batch_size = 128
    shipped = "three passes, of which two for its contrastive terms, float32"
    architecture = "channels 64 to 512, code 128, prior of one LSTM layer, not two"
    options = SimpleNamespace(
        f_dim=256, z_dim=32, g_dim=128, rnn_size=256, f_rnn_layers=1, channels=3, frames=FRAMES
    )

    def network(self, device: torch.device) -> nn.Module:
        network = self.module("model", "CDSVAE").CDSVAE(self.options)
        return network.to(device).train()

    def step(self, batch: int, device: torch.device) -> Callable[[], Any]:
        losses = self.module("loss", "contrastive_loss", "compute_mi")
        density = self.module("mutual_info", "log_density", "logsumexp")
        network, contrast = self.network(device), losses.contrastive_loss(tau=0.5, normalize=True)
        x, same_f, same_z = torch.rand(3, batch, FRAMES, 3, SIDE, SIDE, device=device)

        def of_all(samples: Tensor, q: tuple[Tensor, Tensor]) -> Tensor:
            """log q of each sample by every sequence's posterior, (frames, batch, batch, size)."""
            return density.log_density(samples.unsqueeze(2), *(moment.unsqueeze(1) for moment in q))

        def loss() -> Tensor:
            f_mean, f_logvar, f, mean, logvar, z, prior_mean, prior_logvar, _, means = network(x)
            f_other, z_other = network(same_f)[0], network(same_z)[3]
            losses.compute_mi(f, (f_mean, f_logvar))
            for t in range(FRAMES):
                losses.compute_mi(z[:, t], (mean[:, t], logvar[:, t]))
            q_f = of_all(*_repeated(f, f_mean, f_logvar))
            q_z = of_all(z.transpose(0, 1), (mean.transpose(0, 1), logvar.transpose(0, 1)))
            together = torch.cat([q_f, q_z], dim=3)
            log_f, log_z, log_both = (
                density.logsumexp(each.sum(3), dim=2) - math.log(batch * SEQUENCES)
                for each in (q_f, q_z, together)
            )
            information = F.relu(log_both - log_f - log_z).mean()
            contrasts = contrast(f_mean, f_other) + contrast(mean.flatten(1), z_other.flatten(1))
            parts = (f_mean, f_logvar), (mean, logvar), (prior_mean, prior_logvar)
            return bound(x, means, *parts) + information + 10 * contrasts

        return training(network, loss, 1e-3, False)

    def one_pass(self, batch: int, device: torch.device, bfloat16: bool) -> Callable[[], Any]:
        network = self.network(device)
        x = torch.rand(batch, FRAMES, 3, SIDE, SIDE, device=device)

        def loss() -> Tensor:
            f_mean, f_logvar, _, mean, logvar, _, prior_mean, prior_logvar, _, means = network(x)
            return bound(x, means, (f_mean, f_logvar), (mean, logvar), (prior_mean, prior_logvar))

        return training(network, loss, 1e-3, bfloat16)

    def ours(self) -> DSAE:
        return DSAE(
            ModelConfig(
                guide="full",
                prior="lstm",
                static_dim=256,
                dynamic_dim=32,
                channels=(64, 128, 256, 512),
                code_dim=128,
                hidden_dim=256,
            )
        )


def _repeated(f: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    samples, *q = (each.expand(FRAMES, *each.shape) for each in (f, mean, logvar))
    return samples, tuple(q)


def bound(
    x: Tensor,
    means: Tensor,
    q_f: tuple[Tensor, Tensor],
    q_z: tuple[Tensor, Tensor],
    p_z: tuple[Tensor, Tensor],
) -> Tensor:
    """The loss of both: squared error and KL terms, each of means and log variances."""
    error = F.mse_loss(means.float(), x, reduction="sum")
    kl_f = -0.5 * (1 + q_f[1] - q_f[0].square() - q_f[1].exp()).sum()
    errors = (q_z[1].exp() + (q_z[0] - p_z[0]).square()) / p_z[1].exp()
    kl_z = 0.5 * (p_z[1] - q_z[1] + errors - 1).sum()
    return (error + kl_f + kl_z) / len(x)


def training(
    network: nn.Module, loss: Callable[[], Tensor], rate: float, bfloat16: bool
) -> Callable[[], None]:
    """Steps of their optimizer, Adam as torch makes it when nothing else is said."""
    optimizer = torch.optim.Adam(network.parameters(), rate)
    device = next(network.parameters()).device

    def step() -> None:
        optimizer.zero_grad()
        with _on(device), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        value.item()

    return step


@contextmanager
def _on(device: torch.device) -> Iterator[None]:
    """Where there is no CUDA, what moves tensors there leaves them where they are."""
    stay = patch.object(Tensor, "cuda", lambda tensor: tensor)
    with stay if device.type == "cpu" else nullcontext():
        yield


class WideEncoder(FrameNetwork):
    """5x5 convolutions of which the first keeps the resolution, and two affine layers."""

    def __init__(self, channels: int = 256, code_dim: int = 2048) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, stride in ((3, 1), (channels, 2), (channels, 2), (channels, 2)):
            layers += [
                nn.Conv2d(inputs, channels, 5, stride, padding=2, bias=False),
                nn.BatchNorm2d(channels),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        self.convolutions = nn.Sequential(*layers)
        layers = []
        for inputs, outputs in (
            (channels * (SIDE // 8) ** 2, 2 * code_dim),
            (2 * code_dim, code_dim),
        ):
            layers += [
                nn.Linear(inputs, outputs, bias=False),
                nn.BatchNorm1d(outputs),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        self.code = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, *x.shape[-3:]).contiguous(memory_format=torch.channels_last)
        with self.autocast(x):
            code = self.code(self.convolutions(flat).flatten(1))
        return code.to(x.dtype).reshape(*x.shape[:-3], -1)


class WideDecoder(FrameNetwork):
    """Two affine layers and 5x5 transposed convolutions, of which the last keeps the resolution."""

    def __init__(self, latent_dim: int, channels: int = 256, code_dim: int = 2048) -> None:
        super().__init__()
        self.grid = (channels, SIDE // 8, SIDE // 8)
        self.code = nn.Sequential(
            nn.Linear(latent_dim, 2 * code_dim),
            nn.LeakyReLU(SLOPE),
            nn.Linear(2 * code_dim, math.prod(self.grid)),
            nn.LeakyReLU(SLOPE),
        )
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [
                nn.ConvTranspose2d(channels, channels, 5, 2, 2, output_padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
        layers += [
            nn.ConvTranspose2d(channels, 3, 5, 1, 2, bias=False),
            nn.BatchNorm2d(3),
            nn.Tanh(),
        ]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        with self.autocast(latents):
            grid = self.code(latents).reshape(-1, *self.grid)
            frames = self.convolutions(grid.contiguous(memory_format=torch.channels_last))
        return frames.to(latents.dtype).reshape(*latents.shape[:-1], 3, SIDE, SIDE)


PEERS: dict[str, type[Peer]] = {"yatindandi": Yatindandi, "c-dsvae": CDSVAE}
