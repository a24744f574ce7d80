"""PGS: gradient ascent whose step, column by column, is chosen by a policy that was learned offline.

Source: Chemingui, Deshwal, Hoang and Doppa, "Offline Model-Based Optimization via Policy-Guided Gradient Search", AAAI 2024, and
the authors' code. Symbols: f a forward model, x relaxed designs of r columns, a actions within −1 and 1, one a column.

 1. Pairs (x, x') of the best measured designs are read as steps x' = x + 10·a ∘ ∇f(x), so a = (x' − x) / (10·∇f(x)), 0 where that
    is larger than 1. The reward is y' − y, and an episode ends after `horizon` steps.
 2. A policy π(a | x) learns from them by conservative Q-learning on a soft actor-critic (Kumar et al., NeurIPS 2020): two
    critics, each pushed down by `conservatism`·(log ∫ exp Q(x, a) da − Q(x, a of the data)), the integral from random and policy
    actions.
 3. Solutions start at the best measured designs and take `particle_steps` steps x ← x + scale·π(x) ∘ ∇f(x), π its mode.

Where this differs from that code, and why:

 1. Letters are relaxed here as everywhere (log odds against the first letter), not by a variational autoencoder.
 2. Pairs are drawn anew for each batch, not kept as 20,000 episodes; an episode's end is drawn with 1/`horizon`.
 3. Smaller networks and 1,000 policy steps in place of 400,000, for time; `paper()` has theirs. It saves the policy at eight
    moments and scores each with the truth; here the last one counts.
 4. Visited designs are offered, each start's best first, and particles stay in the box; `paper()` leaves it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from labloop.methods._diffusion import build
from labloop.methods._forward import ForwardModel, Proxy, View, fit, offered
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Pool
from labloop.registry import plugin
from labloop.runtime.progress import track
from labloop.surrogates.networks import StackedMLP
from labloop.surrogates.training import Adam, torch_generator, without_denormals

if TYPE_CHECKING:
    from jaxtyping import Float

REACH = 10.0
"""Of a step in gradients, at an action of 1, as the data are read."""


@plugin
class PGS(ForwardModel):
    """Gradient ascent guided by a policy that was learned offline from steps between good designs."""

    family: ClassVar[str] = "forward model"
    source: ClassVar[str] = "Chemingui et al., AAAI 2024"
    cost: ClassVar[str] = "one small network, then a policy and two critics"
    name: ClassVar[str] = "pgs"

    best_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of the measured designs, the best, between which steps are read; two designs at least."""
    horizon: PositiveInt = 50
    """Steps of an episode."""
    policy_hidden: PositiveInt = 128
    """Width of the two hidden layers of policy and critics."""
    policy_steps: PositiveInt = 1_000
    """Training steps of policy and critics."""
    policy_batch: PositiveInt = 128
    """Pairs of designs in each."""
    policy_lr: PositiveFloat = 1e-3
    """Learning rate of policy, critics and temperature."""
    actions: PositiveInt = 4
    """Random actions, and actions of the policy, by which the integral over actions is estimated."""
    conservatism: NonNegativeFloat = 5.0
    """Weight of the term that lowers what the data do not show; 0 is a plain soft actor-critic."""
    discount: Annotated[float, Field(ge=0, le=1)] = 0.99
    """What a gain counts for one step later."""
    particle_steps: PositiveInt = 50
    scale: PositiveFloat | None = None
    """Of a step; by default 2·√r for letters and 0.05·√r for others."""

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """The published settings; hours on a CPU."""
        settings: dict[str, Any] = {
            "hidden": (2048, 2048), "epochs": 50, "min_steps": 0, "max_steps": None, "policy_hidden": 256,
            "policy_steps": 400_000, "policy_batch": 256, "policy_lr": 3e-4, "actions": 10, "projected": False,
        }  # fmt: skip
        return cls(**{**settings, **changes})

    def propose(self, data: Dataset, n: int, *, seed: int) -> Pool:
        """Train the model, then the policy, and follow it; the scores are the model's predictions, in y.

        Raises:
            MethodError: fewer than two designs are measured, or fewer than n new ones exist.
        """
        view = View.of(data, self.relaxation, proposer=self.name)
        proxy = fit(view, self, seed=seed, proposer=self.name)
        gen = torch_generator(seed, self.name, "policy")
        top = view.y.argsort(descending=True)[: max(2, round(self.best_share * len(view.y)))]
        agent = Agent.draw(view.Z.shape[1], self.policy_hidden, gen, view.device)
        self._learn(agent, proxy, view.Z[top], view.y[top], gen)

        letters = torch.tensor(view.relaxation.discrete, device=view.device)
        scale = torch.where(letters, self.scale or 2.0 * math.sqrt(len(letters)), self.scale or 0.05 * math.sqrt(len(letters)))

        def follow() -> Iterator[Tensor]:
            z = view.starts(n)
            for _ in range(self.particle_steps):
                z = z + scale * agent.mode(z) * gradient(proxy, z)
                z = view.box(z) if self.projected else z
                yield z

        notes = {**proxy.notes, "policy_steps": self.policy_steps}
        return offered(proxy, follow(), self.particle_steps, n, seed=seed, proposer=self.name, notes=notes)

    def _learn(
        self, agent: Agent, proxy: Proxy, Z: Float[Tensor, "m r"], y: Float[Tensor, " m"], gen: torch.Generator
    ) -> None:  # fmt: skip
        """Teach the agent steps between designs Z of values y."""
        slopes = torch.cat([gradient(proxy, part) for part in Z.split(8_192)])
        learner = Adam(agent.critics.parameters(), lr=self.policy_lr)
        actor = Adam(agent.policy.parameters(), lr=self.policy_lr)
        heat = torch.zeros((), device=Z.device, requires_grad=True)
        tempering = Adam([heat], lr=self.policy_lr)
        with without_denormals(), torch.enable_grad():
            for _ in track(self.policy_steps, "pgs: policy"):
                here = torch.randint(len(Z), (self.policy_batch,), generator=gen)
                there = (here + torch.randint(1, len(Z), here.shape, generator=gen)) % len(Z)
                goes_on = (torch.rand(here.shape, generator=gen) >= 1 / self.horizon).float().to(Z.device)
                here, there = here.to(Z.device), there.to(Z.device)
                a = step_between(Z[here], Z[there], slopes[here])
                loss = agent.critic_loss(
                    Z[here], a, y[there] - y[here], Z[there], self.discount * goes_on, gen,
                    actions=self.actions, conservatism=self.conservatism,
                )  # fmt: skip
                learner.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                learner.step()
                drawn, density = agent.act(Z[here], gen)
                actor_loss = (heat.exp().detach() * density - agent.value(Z[here], drawn).amin(0)).mean()
                actor.zero_grad()
                actor_loss.backward()  # type: ignore[no-untyped-call]
                actor.step()
                tempering.zero_grad()
                (-heat * density.detach().mean()).backward()  # towards an entropy of 0, as published
                tempering.step()
                agent.follow()
        agent.policy.requires_grad_(False)


def gradient(proxy: Proxy, z: Float[Tensor, "b r"]) -> Float[Tensor, "b r"]:
    """∇f at z, in standardised y."""
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(proxy(at).sum(), at)
    return slope


def step_between(low: Float[Tensor, "b r"], high: Float[Tensor, "b r"], slope: Float[Tensor, "b r"]) -> Float[Tensor, "b r"]:
    """Read the action a with high = low + REACH·a ∘ slope; 0 where it would be larger than 1, or the slope is 0."""
    a = ((high - low) / (REACH * slope)).nan_to_num(0.0, torch.inf, -torch.inf)
    return torch.where(a.abs() > 1, 0.0, a)


@dataclass(frozen=True, eq=False)
class Agent:
    """A policy of squashed normal actions, two critics side by side, and their slow copies."""

    policy: nn.Module
    """x (b, r) to means and log standard deviations, (b, 2r)."""
    critics: StackedMLP
    """x and a (b, 2r) to the values of both, (2, b)."""
    slow: StackedMLP

    @classmethod
    def draw(cls, r: int, hidden: int, gen: torch.Generator, device: torch.device) -> Agent:
        """Draw new networks."""

        def layers() -> nn.Module:
            return nn.Sequential(
                nn.Linear(r, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * r)
            )  # fmt: skip

        critics = StackedMLP(2, 2 * r, (hidden, hidden), generator=gen).to(device)
        slow = StackedMLP(2, 2 * r, (hidden, hidden), generator=gen).to(device)
        slow.load_state_dict(critics.state_dict())
        return cls(build(layers, gen).to(device), critics, slow.requires_grad_(False))

    def mode(self, z: Float[Tensor, "b r"]) -> Float[Tensor, "b r"]:
        """The action that the policy holds best."""
        with torch.no_grad():
            return self.policy(z).chunk(2, -1)[0].tanh()  # type: ignore[no-any-return]

    def act(self, z: Float[Tensor, "*b r"], gen: torch.Generator) -> tuple[Float[Tensor, "*b r"], Float[Tensor, "*b"]]:
        """Draw actions for z, with their log densities."""
        mean, spread = self.policy(z).chunk(2, -1)
        spread = spread.clamp(-20, 2)
        noise = torch.randn(mean.shape, generator=gen).to(z.device)
        raw = mean + spread.exp() * noise
        density = -0.5 * noise.square() - spread - 0.5 * math.log(2 * math.pi)
        # log(1 − tanh²) of raw, in the form that does not cancel
        squash = 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))
        return raw.tanh(), (density - squash).sum(-1)

    def value(self, z: Float[Tensor, "b r"], a: Float[Tensor, "b r"]) -> Float[Tensor, "2 b"]:
        """Both critics' values of actions a at z."""
        return self.critics(torch.cat([z, a], -1))  # type: ignore[no-any-return]

    def critic_loss(
        self, z: Float[Tensor, "b r"], a: Float[Tensor, "b r"], reward: Float[Tensor, " b"], after: Float[Tensor, "b r"],
        discount: Float[Tensor, " b"], gen: torch.Generator, *, actions: int, conservatism: float,
    ) -> Float[Tensor, ""]:  # fmt: skip
        """Squared error of the one-step target, and what conservatism adds; all over the batch."""
        with torch.no_grad():
            onward = self.slow(torch.cat([after, self.act(after, gen)[0]], -1)).amin(0)
            target = reward + discount * onward
        q = self.value(z, a)
        loss = (q - target).square().mean(1).sum()
        if not conservatism:
            return loss
        r = z.shape[1]
        with torch.no_grad():
            random = 2 * torch.rand(actions, *z.shape, generator=gen).to(z.device) - 1
            now, its_density = self.act(z.expand(actions, -1, -1), gen)
            then, next_density = self.act(after.expand(actions, -1, -1), gen)
            tried = torch.cat([random, now, then])
            density = torch.cat([torch.full_like(its_density, -r * math.log(2)), its_density, next_density])
        values = self.value(z.repeat(len(tried), 1), tried.flatten(0, 1)).unflatten(1, (len(tried), len(z)))
        return loss + conservatism * ((values - density).logsumexp(1) - q).mean(1).sum()

    def follow(self, rate: float = 5e-3) -> None:
        """Move the slow critics a step towards the others."""
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.critics.parameters(), strict=True):
                slow.lerp_(fast, rate)
