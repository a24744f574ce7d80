"""What ICT and tri-mentoring share: three proxies that correct each other around the candidates, as these climb their mean.

A lesson is a loss of one proxy on generated samples, each with a weight or a label of its own that is learned: such that one
plain step on the lesson lowers the proxy's error on the data (one differentiable inner step), after which the proxy takes the
lesson in earnest, by Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labloop.methods._forward import ForwardModel, Proxy, View, ascend, fit
from labloop.runtime.progress import track
from labloop.surrogates.networks import StackedMLP
from labloop.surrogates.training import Adam, torch_generator

if TYPE_CHECKING:
    from jaxtyping import Float

PROXIES = 3
Params = dict[str, Tensor]
Lesson = Callable[[Params, Tensor], Tensor]
"""The loss of a proxy with these parameters on its samples, of what is learned about them (s,)."""


def mentored(
    view: View, options: ForwardModel, n: int, *, seed: int, proposer: str,
    mentor: Callable[[StackedMLP, Tensor, list[Adam], torch.Generator], None],
) -> tuple[Proxy, Iterator[Tensor]]:  # fmt: skip
    """Train three proxies; give them, and the climb on their mean, each step of which begins with mentoring at the particles."""
    proxy = fit(view, options, seed=seed, proposer=proposer, members=PROXIES)
    net, gen = proxy.net.requires_grad_(True), torch_generator(seed, proposer, "mentoring")
    adams = [Adam(net.parameters(), lr=options.lr) for _ in range(PROXIES)]

    def climb() -> Iterator[Tensor]:
        steps = ascend(lambda z: proxy(z).mean(0), view.starts(n), view, options)
        at = view.starts(n)
        for _ in track(options.particle_steps, f"{proposer}: climbing"):
            mentor(net, at.detach(), adams, gen)
            at = next(steps)
            yield at
        net.requires_grad_(False)

    return proxy, climb()


def alone(net: StackedMLP, member: int) -> Params:
    """The parameters of one proxy, with the stack's first dimension 1, attached to the stack."""
    return {name: value[member : member + 1] for name, value in net.named_parameters()}


def predict(params: Params, z: Float[Tensor, "b r"], slope: float = 0.0) -> Float[Tensor, " b"]:
    """Predict by one proxy's parameters."""
    layers = sum(name.startswith("weights") for name in params)
    for i in range(layers):
        z = z @ params[f"weights.{i}"][0] + params[f"biases.{i}"][0]
        z = torch.nn.functional.leaky_relu(z, slope) if i < layers - 1 else z
    return z[:, 0]


def learned(
    params: Params, lesson: Lesson, start: Float[Tensor, " s"], z: Float[Tensor, "b r"], y: Float[Tensor, " b"], *, inner: float,
    rate: float, clamp: float, low: float, high: float,
) -> Float[Tensor, " s"]:  # fmt: skip
    """Take one step on weights or labels down the error on data z, y after one inner step on the lesson.

    Args:
        inner: step of the proxy. rate: step of what is learned, on a gradient cut at ±clamp. low, high: its bounds.
    """
    names, what = list(params), start.detach().requires_grad_()
    held = {name: params[name].detach().requires_grad_() for name in names}
    slopes = torch.autograd.grad(lesson(held, what), [held[name] for name in names], create_graph=True)
    stepped = {name: held[name] - inner * slope for name, slope in zip(names, slopes, strict=True)}
    (gradient,) = torch.autograd.grad((predict(stepped, z) - y).square().mean(), what)
    return (what - rate * gradient.clamp(-clamp, clamp)).clamp(low, high).detach()


def teach(
    net: StackedMLP, pupil: int, lesson: Lesson, start: Float[Tensor, " s"], adam: Adam, view: View,
    options: ForwardModel, gen: torch.Generator, *, rate: float, clamp: float, low: float, high: float,
) -> None:  # fmt: skip
    """Learn a lesson's weights or labels from `start`, against a batch of the data, and let one proxy take it by Adam."""
    found = learned(
        alone(net, pupil), lesson, start, *batch(view, options.batch_size, gen), inner=options.lr, rate=rate, clamp=clamp,
        low=low, high=high,
    )  # fmt: skip
    adam.zero_grad()
    lesson(alone(net, pupil), found).backward()  # type: ignore[no-untyped-call]
    adam.step()


def batch(view: View, size: int, gen: torch.Generator) -> tuple[Float[Tensor, "b r"], Float[Tensor, " b"]]:
    """Draw rows of the data: Z and y."""
    index = torch.randint(len(view.y), (min(size, len(view.y)),), generator=gen).to(view.device)
    return view.Z[index], view.y[index]
