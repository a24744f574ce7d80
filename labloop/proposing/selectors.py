"""Selectors: which candidates of a pool go into an arm's wells, and why.

A selector puts a pool in an order that does not depend on how many are asked for, so that a longer selection starts with the
shorter one. Designs measured or pending by now, and second copies of a design, are dropped first, whatever the selector.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from labloop.errors import MethodError
from labloop.proposing.belief import Correction, Judgement, believing
from labloop.proposing.dataset import Dataset
from labloop.proposing.gain import by_gain, in_turn
from labloop.proposing.panel import Panel, View
from labloop.proposing.pool import Picks, Pool
from labloop.proposing.protocols import Belief, Posterior
from labloop.proposing.refine import refined
from labloop.proposing.search import APART, apart
from labloop.registry import plugin
from labloop.seeds import generator
from labloop.space.design_space import DesignSpace
from labloop.types import Array, ByProperty, Designs, FloatArray, Values

log = logging.getLogger("labloop")

ADAPTS = 1.0
"""What earlier plates change beta by at most."""
SEARCHED = 0.02
"""The same where each pick is searched for, as far from those before it as that, however steep a peak is."""
CLOSE = 0.01
"""The same with several properties, where what picks add to each other keeps them apart: a front can be steep."""
LEAST_HOPE = 0.25
"""What a doubt counts for at least where picks are searched for and beta says how much: without hope each would be the first."""
FRONT = 128
"""Picks by which refinement tells its progress."""
FEW_NUMBERS = 0.2
"""Share of the sites that are numbers from which a batch is searched for pick by pick."""
MOSTLY = 0.5
"""Share of the sites that are numbers from which on a list of designs is one of numbers, and no longer of options."""
JOINT = 384
"""Candidates that are ordered as one batch; the rest follow by their own bounds."""
WIDE = 512
"""Random designs that join a pool of several properties, or of mixtures, before it is refined."""
MOST_SKILL = 0.99
"""A judge's correlation with unseen measurements that counts at most."""
STRANGERS = 512
"""Random designs that stand in for a judge that knows nothing."""
BY_CHANCE = "random"
"""Whose they are."""
SUPPORT_ROWS = 1_000
"""Measured designs that the distance limit is taken from at most."""
CELLS = 8_000_000
"""Distances that are held at once."""


@plugin
class Conservative:
    """The best by lower confidence bound of the judge's belief, near enough to the data and far enough from each other.

    The bound is mean - beta · std of what a design is worth, without the noise of a reading: noise is the same everywhere and
    tells no design from another. A judge that has seen plates come back corrects beta by what its doubt was worth there, and each
    proposer's candidates by how much better or worse they were than it had said (`labloop.proposing.belief.Correction`).
    """

    by_judge: ClassVar[bool] = True

    beta: float = 1.0
    """Standard deviations taken off the mean; below zero the selector is an optimist."""
    numbers: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of a beta below 0 that counts in a space of numbers: std is widest in their corners, far from all data, and hope
    alone would fill a plate with those. The fewer of the sites are numbers, the less of it is lost. Where a fair part of them
    vary freely and `hope` is not said, it is what a doubt counts for in what each pick adds to those before it."""
    adapt: bool = True
    """Correct beta, by up to `ADAPTS`, and proposers by earlier plates."""
    min_distance: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Least distance between two picks: differing letters and options, plus the Euclidean distance of the scaled numbers. `auto`:
    a twentieth of their ranges where there are numbers or mixtures (a fiftieth where picks are searched for, a hundredth with
    several properties), as far as the pool allows; none elsewhere."""
    spread: Annotated[float, Field(ge=0)] = 0.1
    """Of candidates that are nearly as good as the best left, take the one farthest from all picks. Nearly as good: their bound
    is lower by no more than this share of a reading's noise, which the mean of a hundred wells cannot show."""
    support: Annotated[float, Field(gt=0, le=1)] | None = 0.99
    """A candidate lacks data support where it lies farther from all measured designs than this share of the measured designs
    lie from their nearest other one. None: no such rule; nor is there one while beta is 0 or less, as an optimist looks for
    designs of which little is known."""
    relax: bool = True
    """Where fewer than n candidates have support, fill up with those nearest to the data (and log it) instead of raising."""
    joint: bool = True
    """While beta is below 0, hope for a doubt once: a candidate's std is what the picks before it will leave of it (Desautels et
    al., JMLR 15, 2014)."""
    hope: Annotated[float, Field(gt=0)] | None = None
    """Instead of going by the bound, choose each pick by what it adds, in expectation, to the best measured and to the picks
    before it (`labloop.proposing.gain`), where a std counts for this many. Options, alone or with fewer numbers in steps, and
    several properties go by `beta` all the same. Earlier plates correct what is told of such picks, and not which they are."""
    own: Annotated[float, Field(ge=0, le=1_000)] = 0.0
    """What a sequence's own value counts for beside what it adds to the best, where it is chosen for that (`hope`), times what
    the judge explains of unseen measurements' variance over what it leaves: a plate of good designs is worth something, too."""
    beyond_chance: Annotated[float, Field(ge=0)] | None = None
    """What tells a judge from chance before any plate came back: its correlation with measurements that it has not seen, in
    standard errors of none. One that has less does not choose alone by what picks add: for what it lacks of this so large a share
    of them is drawn at random, all where it lacks one or more. None: it always chooses alone, as it does among options."""
    refine: Annotated[int, Field(ge=0)] = 0
    """Generations of local search on the bound around the pool's designs (`labloop.proposing.refine`); 0: the pool as it is.
    Where picks are searched for one by one, each has an eighth of them, as the search goes on from pick to pick. With several
    properties, and of mixtures that `hope` chooses, it begins at random designs too, which are the judge's own."""

    def select(self, pool: Pool, posterior: Posterior, data: Dataset, n: int, *, seed: int) -> Picks:
        """Choose n of the pool by lower confidence bound, best first; those that only `relax` lets in come last.

        Raises:
            MethodError: fewer than n are left; the message says which rule dropped how many.
        """
        judge, several = believing(posterior), isinstance(posterior, Panel)
        correction: Correction = getattr(posterior, "correction", Correction()) if self.adapt else Correction()
        beta = self._beta(data.space) - float(np.clip(correction.doubt, -ADAPTS, ADAPTS))
        hope = self._hope(data.space, beta) if isinstance(judge, Judgement) and not several else None
        beta = beta if hope is None else -hope
        hopeful = hope is not None or (self.joint and beta < 0)
        searched = hope is not None and _free(data.space)
        least = _least(data.space, several, searched) if self.min_distance == "auto" else self.min_distance

        def bound(X: FloatArray, proposer: Array) -> FloatArray:
            return _bound(judge, Correction() if several else correction, X, proposer, beta)

        rows, dropped = _choosable(pool, data)
        fresh = pool.take(rows)
        offered, steps = set(fresh.ids), self.refine if len(fresh) else 0
        if isinstance(posterior, Panel):
            found, order = _by_hypervolume(fresh, posterior.at(beta), data, least=least, generations=steps, seed=seed)
        elif searched and hope is not None and isinstance(judge, Judgement) and len(fresh):
            found = by_gain(fresh, judge, data, n, hope=hope, least=least, generations=steps, seed=seed)
            order = np.arange(len(found))
        else:
            if hope is not None and steps and not _letters(data.space):
                fresh = _widened(fresh, data, seed)
            found = refined(fresh, bound, data, FRONT, generations=steps, seed=seed) if steps else fresh
            order = None
        lcb = bound(found.X, found.proposer)
        if order is None:
            order = np.argsort(-lcb, kind="stable")
            if hope is not None and isinstance(judge, Judgement):
                first = in_turn(found, judge, data, min(n, JOINT), hope=hope, seed=seed, own=self._own(judge, data.space))
                order = np.concatenate([first, order[~np.isin(order, first)]])
            elif hopeful and isinstance(judge, Judgement):
                order = _taught(order, found.X, lcb, judge, beta)
        blind = self._blind(judge) if hope is not None and isinstance(judge, Judgement) else 0.0
        if blind:
            known = len(found)
            found, order = _with_chance(found, order, blind, data, seed)
            lcb = np.concatenate([lcb, bound(found.X[known:], found.proposer[known:])])
        nearest, distance = _nearest(found.X, data)
        limit = np.inf if self.support is None or beta <= 0 else support_limit(data, self.support)
        far = distance > limit
        # Those without support come last, the nearest to the data first.
        order = order[np.argsort(np.where(far, distance, 0.0)[order], kind="stable")]
        if not self.relax:
            order = order[~far[order]]
            dropped["lack data support"] = int(far.sum())
        slack = 0.0 if several or hopeful else self.spread * judge.noise_std
        spread = apart(data.space, found.X[order], least, n, worth=np.where(far, -np.inf, lcb)[order], slack=slack)
        if self.min_distance == "auto" and len(spread) < n:  # a distance that nobody asked for refuses nothing
            spread = np.concatenate([spread, np.setdiff1d(np.arange(len(order)), spread)])[:n]
        if len(spread) < n:
            dropped[f"are nearer than {least:g} to a better pick"] = len(order) - len(spread)
            raise _too_few("conservative", n, len(pool) + len(found) - len(rows), dropped)
        chosen = order[spread]
        relaxed, by_chance = int(far[chosen].sum()), int((found.proposer[chosen] == BY_CHANCE).sum()) if blind else 0
        if relaxed:
            log.warning(
                "conservative: only %d of %d picks have data support (nearest measured design within %.3g); "
                "the others are the nearest to the data",
                n - relaxed, n, limit,
            )  # fmt: skip
        notes = {
            "beta": beta, "support_limit": float(limit), "without_support": int(far.sum()), "relaxed": relaxed,
            "min_distance": float(least),
            "refined": sum(found.ids[i] not in offered for i in chosen.tolist() if found.proposer[i] != BY_CHANCE),
            "by_chance": by_chance,
        }  # fmt: skip
        taken = found.take(chosen)
        mean, std = posterior(taken.X)
        return Picks(
            pool=replace(taken, notes={**pool.notes, "selection": notes}), mean=mean, std=std, lcb=lcb[chosen],
            nearest_id=tuple(nearest[i] for i in chosen.tolist()), nearest_distance=distance[chosen],
        )  # fmt: skip

    def _hope(self, space: DesignSpace, beta: float) -> float | None:
        """Say what a std counts for in what each pick adds; None where picks go by the bound."""
        if self.hope is None and _free(space):
            return max(-beta, LEAST_HOPE) if self.joint and self.beta <= 0 else None
        return None if _options(space) else self.hope

    def _own(self, judge: Judgement, space: DesignSpace) -> float:
        """Say what a design's own value counts for: nothing where the judge explains nothing, or there is more than letters."""
        explained = float(np.clip(judge.skill, 0.0, MOST_SKILL)) ** 2
        return self.own * explained / (1 - explained) if _letters(space) else 0.0

    def _blind(self, judge: Judgement) -> float:
        """Say which share of the picks is left to chance, as the judge can hardly be told from it."""
        if self.beyond_chance is None or judge.past:
            return 0.0
        return float(np.clip(self.beyond_chance - judge.beyond_chance, 0.0, 1.0))

    def _beta(self, space: DesignSpace) -> float:
        """Tell what is left of beta in a space of numbers."""
        share = 1.0 if _free(space) else space.share_of_numbers
        return self.beta if self.beta >= 0 else self.beta * (1 - (1 - self.numbers) * share)


@plugin
class AsProposed:
    """The first of the pool in the proposers' own order: the selector of methods that choose a batch jointly."""

    def select(self, pool: Pool, posterior: Posterior, data: Dataset, n: int, *, seed: int) -> Picks:
        """Choose the first n; the bound given with each pick is the conservative selector's for beta 1.

        Raises:
            MethodError: fewer than n are left.
        """
        rows, dropped = _choosable(pool, data)
        if len(rows) < n:
            raise _too_few("as_proposed", n, len(pool), dropped)
        return explain(pool.take(rows[:n]), posterior, data, 1.0)


@plugin
class RandomSelection:
    """Any of the pool: what a selector has to beat."""

    def select(self, pool: Pool, posterior: Posterior, data: Dataset, n: int, *, seed: int) -> Picks:
        """Choose n at random; the bound given with each pick is the conservative selector's for beta 1.

        Raises:
            MethodError: fewer than n are left.
        """
        rows, dropped = _choosable(pool, data)
        if len(rows) < n:
            raise _too_few("random", n, len(pool), dropped)
        return explain(pool.take(generator(seed, "random selection").permutation(rows)[:n]), posterior, data, 1.0)


def explain(pool: Pool, posterior: Posterior, data: Dataset, beta: float) -> Picks:
    """Give every row of a pool its reasons: the judge's mean and std of a reading, its bound, and the nearest measured design.

    The bound means what it means in the conservative selector: mean - beta · std of what a design is worth, corrected by earlier
    plates; notes tell its beta. Without measured designs the nearest id is empty and its distance infinite.
    """
    mean, std = posterior(pool.X)
    lcb = _bound(believing(posterior), getattr(posterior, "correction", Correction()), pool.X, pool.proposer, beta)
    nearest, distance = _nearest(pool.X, data)
    told = replace(pool, notes={**pool.notes, "selection": {"beta": beta}})
    return Picks(pool=told, mean=mean, std=std, lcb=lcb, nearest_id=nearest, nearest_distance=distance)


def _bound(judge: Belief, correction: Correction, X: FloatArray, proposer: Array, beta: float) -> FloatArray:
    """Give mean - beta · std of what designs X (m, d) of proposers (m,) are worth, in y; (m,)."""
    mean, std = judge.optimistic(X) if beta < 0 and isinstance(judge, Judgement) else judge.belief(X)
    if correction.proposers:
        better = np.array([correction.proposers.get(str(one), 0.0) for one in proposer.tolist()])
        mean = mean + better * np.hypot(std, judge.noise_std)
    return mean - beta * std


def _nearest(X: FloatArray, data: Dataset) -> tuple[tuple[str, ...], FloatArray]:
    """Find the nearest measured design of each row of X (m, d): its id and distance (m,)."""
    if not len(data):
        return ("",) * len(X), np.full(len(X), np.inf)
    index, distance = data.space.nearest(X, data.X, chunk=max(1, CELLS // len(data)))
    return tuple(data.ids[i] for i in index.tolist()), distance


def support_limit(data: Dataset, share: float) -> float:
    """Find the distance within which this share of the measured designs have another measured one.

    With fewer than two measured designs there is nothing to go by, and the limit is infinite.
    """
    if len(data) < 2:
        return np.inf
    near = []
    rows = min(SUPPORT_ROWS, len(data))  # rows stand in the order of a hash, so the first are as good as random ones
    step = max(1, CELLS // len(data))
    for start in range(0, rows, step):
        own = np.arange(start, min(start + step, rows))
        D = data.space.distance(data.X[own], data.X)
        D[np.arange(len(own)), own] = np.inf
        near.append(D.min(1))
    return float(np.quantile(np.concatenate(near), share, method="higher"))


def _by_hypervolume(
    pool: Pool, view: View, data: Dataset, *, least: float, generations: int, seed: int
) -> tuple[Pool, Array]:  # fmt: skip
    """Refine candidates for several properties, and order them by what each adds to those before it."""

    def gains(X: FloatArray, proposer: Array) -> ByProperty:
        return view.gains(X)

    if generations:  # progress is told by a front of its own size: a longer selection must start with the shorter one
        pool = refined(_widened(pool, data, seed), gains, data, FRONT, generations=generations, seed=seed)
    return pool, view.order(pool.X, least=least, seed=seed)


def _widened(pool: Pool, data: Dataset, seed: int) -> Pool:
    """Add random designs to a pool: compromises of several properties lie where proposers, who learn one number, do not look, and
    so may what is left to gain when the best mixture is picked."""
    more = _drawn(data, WIDE, "wide", proposer="judge", seed=seed)
    return Pool.joined([pool, more.without(pool.ids)])


def _drawn(data: Dataset, n: int, label: str, *, proposer: str, seed: int) -> Pool:
    """Draw n random designs, and keep those that are neither measured nor pending, each once."""
    X = data.space.sample(n, generator(seed, "conservative", label))
    X = X[data.space.fresh(X, known=data.taken)]
    drawn = Pool.of(data.space, X, np.zeros(len(X)), proposer=proposer)
    return replace(drawn, score=np.full(len(X), np.nan))  # nobody has an opinion of them


def _choosable(pool: Pool, data: Dataset) -> tuple[Array, dict[str, int]]:
    """Rows of the pool that may be chosen at all, in order, and how many each rule dropped."""
    unique = np.sort(np.unique(np.array(pool.ids, dtype=str), return_index=True)[1])
    taken = np.array([pool.ids[i] in data.taken for i in unique.tolist()], dtype=bool)
    dropped = {"are measured or pending": int(taken.sum()), "are second copies": len(pool) - len(unique)}
    return unique[~taken].astype(np.int64), dropped


def _taught(order: Array, X: Designs, bound: Values, judge: Judgement, beta: float) -> Array:
    """Order the first `JOINT` of designs X (m, d) anew, by bounds (m,) whose std shrinks as if every one before were measured."""
    front, behind = order[:JOINT], order[JOINT:]
    X, bound = X[front], bound[front]
    correlation = judge.correlation(X)
    if correlation is None:
        return order
    std = judge.optimistic(X)[1]
    mean = bound + beta * std
    covariance, noise = correlation * std * std[:, None], max(judge.noise_std, 1e-9 * (float(std.max(initial=0)) or 1.0)) ** 2
    left, told = np.diag(covariance), np.zeros((len(X), len(X)))
    picked: list[int] = []
    open_ = np.ones(len(X), dtype=bool)
    for k in range(len(X)):
        i = int(np.where(open_, mean - beta * np.sqrt(np.maximum(left, 0)), -np.inf).argmax())
        picked.append(i)
        open_[i] = False
        told[k] = (covariance[i] - told[:k, i] @ told[:k]) / np.sqrt(max(left[i], 0.0) + noise)  # a row of a Cholesky factor
        left = left - told[k] ** 2
    return np.concatenate([front[picked], behind])


def _with_chance(pool: Pool, order: Array, share: float, data: Dataset, seed: int) -> tuple[Pool, Array]:
    """Put designs drawn at random among those of a pool, whose rows `order` prefers: a share of any that come first."""
    strangers = _drawn(data, STRANGERS, "by chance", proposer=BY_CHANCE, seed=seed)
    both = Pool.joined([pool, strangers.without(pool.ids)])
    place = {one: i for i, one in enumerate(both.ids)}
    wanted, drawn = iter(order.tolist()), iter([place[one] for one in strangers.ids])
    mixed: dict[int, bool] = {}
    for k in range(len(order)):
        by_chance = int((k + 1) * share) > int(k * share)
        for row in itertools.islice(drawn if by_chance else wanted, 1):
            mixed.setdefault(row, by_chance)
    whose = both.proposer.copy()
    whose[[row for row, by_chance in mixed.items() if by_chance]] = BY_CHANCE
    return replace(both, proposer=whose), np.array(list(mixed | dict.fromkeys(order.tolist())), dtype=np.int64)


def _free(space: DesignSpace) -> bool:
    """Are a fair part of the sites numbers that vary too freely to be listed?"""
    return not space.listable and space.share_of_numbers >= FEW_NUMBERS


def _options(space: DesignSpace) -> bool:
    """Are options chosen, with fewer numbers than options beside them, and these in steps, if any?"""
    numbers = space.kinds - {"choice"}
    few = numbers <= {"real", "integer"} and space.share_of_numbers < MOSTLY and (space.listable or not numbers)
    return "choice" in space.kinds and few


def _letters(space: DesignSpace) -> bool:
    """Are there letters and options alone, no numbers and no mixtures?"""
    return all(block.kind == "onehot" for block in space.blocks)


def _least(space: DesignSpace, several: bool, searched: bool) -> float:
    """Distance below which two designs are one to a lab: part of a number's range; letters and options differ or do not."""
    return 0.0 if _letters(space) else CLOSE if several else SEARCHED if searched else APART


def _too_few(name: str, n: int, candidates: int, dropped: dict[str, int]) -> MethodError:
    told = ", ".join(f"{count} {rule}" for rule, count in dropped.items() if count) or "none was dropped"
    left = candidates - sum(dropped.values())
    return MethodError(
        f"{name} was asked for {n} picks, but {left} of the pool's {candidates} candidates are left ({told}): "
        "offer a larger pool (arms.*.pool), or loosen the rule"
    )
