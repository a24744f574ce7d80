"""BRAID: the contract in all its forms, and what the mathematics promises."""

from __future__ import annotations

from labloop.methods.braid import BRAID, STRL, BRAIDBonus, Guidance
from labloop.testing import ProposerContract

TINY = {"hidden": (32, 32), "reward_steps": 60, "width": 8, "depth": 2, "prior_steps": 60, "steps": 8, "grad_steps": 4,
        "iterations": 12, "batch_size": 32, "n_samples": 96, "max_rounds": 2, "lr": 5e-3, "kl": 0.1,
        "reward_lr": 1e-2, "prior_lr": 1e-2}  # fmt: skip


class TestBoot(ProposerContract):
    proposer = BRAID(**TINY, heads=3)


class TestBonus(ProposerContract):
    proposer = BRAIDBonus(**TINY, heads=2)


class TestSTRL(ProposerContract):
    proposer = STRL(**TINY)


class TestGuidance(ProposerContract):
    proposer = Guidance(**TINY)
