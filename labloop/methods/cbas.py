"""CbAS: conditioning by adaptive sampling, and its autofocused form.

Sources: Brookes, Park and Listgarten, ICML 2019; Fannjiang and Listgarten, "Autofocused oracles for model-based design", NeurIPS
2020; both with the settings of Design-Bench's code. A variational autoencoder p learns what designs look like; q begins as p. In
each round designs x are drawn from q, and q learns them anew, each with the weight

    w = p(x|z)/q(x|z) · P(y > γ | x),    γ a percentile of the predictions in the round, never falling,

P by the mixture of a bootstrapped ensemble. Autofocusing trains the ensemble again after each round, each measurement with the
weight v = q(x|z)/p₀(x|z), p₀ the first p and z the encoder's: the ensemble attends to where the designs have moved.

Where this differs from Design-Bench's code, and why:

 1. The ensemble is fitted by squared error, its spread that of its residuals; see `labloop.methods._proxy`.
 2. Weights are divided by their mean, and w and v cut at `most`: one design would otherwise decide a round.
 3. Numbers of a design are normal about the decoder's, with one learned spread.
 4. γ never falls, as in the CbAS paper; that code takes each round's own percentile.
 5. Trained by steps, not epochs, in batches of 100; as many as theirs only by `paper()`. Few designs are passed over at most
    `passes` times: an autoencoder that knows them by heart has nothing new to offer.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from labloop.methods import _offer
from labloop.methods._diffusion import build
from labloop.methods._forward import fit
from labloop.methods._proxy import PAPER, Ensembled, ProxyModel, ensembled, number_columns, onehot_rows, residual_spread
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.seeds import derive
from labloop.space.design_space import DesignSpace
from labloop.surrogates.training import Adam, torch_generator, without_denormals
from labloop.types import Designs, FloatArray

if TYPE_CHECKING:
    from jaxtyping import Float

BATCH = 100


@plugin
class CbAS(ProxyModel):
    """An autoencoder of designs, taught in rounds by its own designs that an ensemble believes to be good."""

    family: ClassVar[str] = "generative"
    source: ClassVar[str] = "Brookes et al., ICML 2019"
    cost: ClassVar[str] = "five networks and an autoencoder"
    name: ClassVar[str] = "cbas"

    latent: PositiveInt = 32
    """Numbers that a design is squeezed into."""
    width: PositiveInt = 256
    """Units of a hidden layer."""
    prior_steps: PositiveInt = 3_000
    """Steps of training the autoencoder on all designs, before the search, at most."""
    passes: PositiveInt | None = 100
    """Passes of that training over the designs, at most; null for no bound."""
    rounds: PositiveInt = 20
    """Rounds of the search."""
    samples: PositiveInt = 1_000
    """Designs drawn a round."""
    round_steps: PositiveInt = 100
    """Steps of training it on each round's designs."""
    percentile: Annotated[float, Field(gt=0, lt=100)] = 80.0
    """Percentile of the values of the designs drawn, above which a design counts as good."""
    vae_lr: PositiveFloat = 1e-3
    """Learning rate of the autoencoder."""
    most: PositiveFloat = 20.0
    """Largest weight, over the mean."""
    autofocused: bool = False
    """Whether the networks are trained anew each round, on data weighed for where the search is."""
    focus_steps: PositiveInt = 100
    """Steps of the ensemble's training after a round."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The settings of Design-Bench's code on TF Bind 8, its epochs as steps."""
        settings = {
            "latent": 32, "width": 256, "prior_steps": 65_600, "passes": None, "rounds": 20, "samples": 1_000, "round_steps": 100,
            "vae_lr": 3e-4, "percentile": 80.0, "focus_steps": 3_280,
        }  # fmt: skip
        return cls(**{**PAPER, **settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train, adapt and draw; scores are the ensemble's mean at the end, in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        model = ensembled(data, self, seed=seed, proposer=self.name)
        gen, space = torch_generator(seed, self.name), data.space
        p = autoencoder(space, self.latent, self.width, gen)
        twins = torch.tensor(np.concatenate(space.orbit(data.X)), dtype=torch.float32)
        level = -np.inf
        with without_denormals():
            steps = _offer.within_passes(self.prior_steps, len(twins), BATCH, self.passes)
            learn(p, twins, torch.ones(len(twins)), steps, self.vae_lr, gen, f"{self.name}: autoencoder")
            q = copy.deepcopy(p)
            for round_ in track(self.rounds, f"{self.name}: rounds"):
                z = torch.randn(self.samples, self.latent, generator=gen)
                X = q.draw(z, gen)
                x = torch.tensor(X, dtype=torch.float32)
                level = max(level, float(np.percentile(model.score(X), self.percentile)))
                with torch.no_grad():
                    ratio = (p.logp(x, z) - q.logp(x, z)).double()
                weights = importance(ratio, torch.tensor(model.above(X, level)), self.most)
                learn(q, x, weights, self.round_steps, self.vae_lr, gen)
                if self.autofocused:
                    model = self._focus(model, p, q, twins, derive(seed, round_))

        def draw(k: int) -> FloatArray:
            return space.repair(q.draw(torch.randn(k, self.latent, generator=gen), gen))

        notes = {**model.proxy.notes, "level": level}
        return _offer.drawn(data, draw, n, seed=derive(seed, self.name), proposer=self.name, notes=notes, score=model.score)

    def _focus(self, model: Ensembled, p: VAE, q: VAE, twins: Float[Tensor, "N d"], seed: int) -> Ensembled:
        with torch.no_grad():
            z = p.encode(twins)[0]
            v = importance((q.logp(twins, z) - p.logp(twins, z)).double(), torch.ones(len(twins)), self.most)
        weights = model.counts * v.float().to(model.counts.device)
        proxy = fit(
            model.view, self.forward, seed=seed, proposer=self.name, counts=weights, net=model.proxy.net, steps=self.focus_steps
        )
        return Ensembled(proxy, residual_spread(proxy), model.counts)


@plugin
class AutofocusedCbAS(CbAS):
    """CbAS whose ensemble learns on after each round, attending to the data that resemble the designs of the round."""

    source: ClassVar[str] = "Fannjiang and Listgarten, NeurIPS 2020"
    cost: ClassVar[str] = "five networks, trained on each round, and an autoencoder"
    name: ClassVar[str] = "autofocused_cbas"
    autofocused: bool = True
    """Whether the networks are trained anew each round, on data weighed for where the search is."""


def importance(log_ratio: Float[Tensor, " b"], factor: Float[Tensor, " b"], most: float) -> Float[Tensor, " b"]:
    """Weights exp(log_ratio)·factor over their mean, cut at `most`; all one where every one vanishes."""
    logs = log_ratio + factor.double().clamp_min(1e-300).log()
    w = (logs - logs.max()).exp()
    return (w / w.mean()).clamp_max(most)


def autoencoder(space: DesignSpace, latent: int, width: int, gen: torch.Generator) -> VAE:
    """Draw an autoencoder's weights from the generator."""
    vae = build(lambda: VAE(space, latent, width), gen)
    assert isinstance(vae, VAE)
    vae.log_std.data.fill_(-1.5)
    return vae


class VAE(nn.Module):
    """An autoencoder of rows of X: categorical letters and options, normal numbers, and a standard normal code z."""

    def __init__(self, space: DesignSpace, latent: int, width: int) -> None:
        super().__init__()
        self.space, self.blocks, self.numbers = space, onehot_rows(space), number_columns(space)
        self.encoder = nn.Sequential(nn.Linear(space.d, width), nn.LeakyReLU(), nn.Linear(width, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, width), nn.LeakyReLU(), nn.Linear(width, space.d))
        self.log_std = nn.Parameter(torch.zeros(()))

    def encode(self, x: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "b l"], Float[Tensor, "b l"]]:
        """Mean and log std of z."""
        mean, log_std = self.encoder(x).chunk(2, 1)
        return mean, log_std.clamp(-6, 2)

    def logp(self, x: Float[Tensor, "b d"], z: Float[Tensor, "b l"]) -> Float[Tensor, " b"]:
        """log p(x|z)."""
        out, total = self.decoder(z), torch.zeros(len(x))
        for cols, rows, k in self.blocks:
            total = total + (out[:, cols].reshape(-1, rows, k).log_softmax(2).flatten(1) * x[:, cols]).sum(1)
        if len(self.numbers):
            error = (x[:, self.numbers] - out[:, self.numbers]) / self.log_std.exp()
            total = total - (0.5 * error**2 + self.log_std).sum(1)
        return total

    def elbo(self, x: Float[Tensor, "b d"], gen: torch.Generator) -> Float[Tensor, " b"]:
        """A one-sample bound of log p(x)."""
        mean, log_std = self.encode(x)
        z = mean + log_std.exp() * torch.randn(mean.shape, generator=gen)
        kl = 0.5 * (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std).sum(1)
        return self.logp(x, z) - kl

    def draw(self, z: Float[Tensor, "m l"], gen: torch.Generator) -> Designs:
        """Draw a valid row of X for each code, letters and numbers by chance."""
        with torch.no_grad():
            out = self.decoder(z)
            X = np.zeros((len(z), self.space.d))
            for cols, rows, k in self.blocks:
                p = out[:, cols].reshape(-1, k).softmax(1)
                X[:, cols] = np.eye(k)[torch.multinomial(p, 1, generator=gen)[:, 0].numpy()].reshape(len(z), rows * k)
            if len(self.numbers):
                noise = torch.randn(len(z), len(self.numbers), generator=gen)
                X[:, self.numbers] = (out[:, self.numbers] + self.log_std.exp() * noise).double().numpy()
        return self.space.project(X)


def learn(
    vae: VAE, x: Float[Tensor, "m d"], weights: Float[Tensor, " m"], steps: int, lr: float, gen: torch.Generator,
    label: str | None = None,
) -> None:  # fmt: skip
    """Raise the weighted bound of x by Adam on batches."""
    adam = Adam(vae.parameters(), lr=lr)
    for _ in range(steps) if label is None else track(steps, label):
        index = torch.randint(len(x), (min(BATCH, len(x)),), generator=gen)
        loss = -(weights[index].float() * vae.elbo(x[index], gen)).mean()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
