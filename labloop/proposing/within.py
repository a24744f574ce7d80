"""A batch within its terms: arms that share a plate share its levels, and nothing is used up beyond its total.

Levels are chosen by the arms' own orders: a design counts by its place among all that its arm was offered, and one that has to be
moved to a level by where the judge puts it among these. Then every arm's selector chooses among what is left, as it always does.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from labloop.config.ramp import ramped
from labloop.config.round import RoundConfig
from labloop.errors import MethodError
from labloop.plates.layout import apportion
from labloop.proposing.dataset import Dataset
from labloop.proposing.placed import Placement
from labloop.proposing.pool import Picks, Pool
from labloop.proposing.protocols import Posterior
from labloop.proposing.selectors import explain
from labloop.proposing.terms import Terms, narrowed
from labloop.registry import create
from labloop.seeds import derive, generator
from labloop.space.constraints import Allowed
from labloop.space.design_space import DesignSpace
from labloop.space.parameter import canonical_text
from labloop.space.parameters import Choice
from labloop.types import Array, FloatArray

log = logging.getLogger("labloop")

LEVELS = 24
"""Values of a number that are weighed as levels, at most."""
MOVED = 256
"""Candidates of an arm that are moved to levels, at least; four times its wells where that is more."""
REFILLS = 60
"""Times that an arm chooses again in place of designs beyond a total."""

Chooser = Callable[..., dict[str, Picks]]
Level = str | int | float


@dataclass(frozen=True, eq=False, kw_only=True)
class _Offer:
    """What an arm may choose from, best first: a pool with each design's place in the arm's own order, from 1 to 0."""

    pool: Pool
    worth: FloatArray


@dataclass(frozen=True, eq=False)
class _Work:
    """One round's choice on its way."""

    config: RoundConfig
    posterior: Posterior | None
    data: Dataset
    terms: Terms
    choose: Chooser
    setting: Mapping[str, int]
    levels: dict[tuple[str, int, tuple[int, ...]], list[Level]] = field(default_factory=dict)
    left: dict[tuple[int, tuple[int, ...]], float] = field(default_factory=dict)
    open: dict[tuple[int, tuple[int, ...]], int] = field(default_factory=dict)
    reserve: list[float] = field(default_factory=list)
    """What each resource holds back for every design to come: what a quarter of the candidates make do with, within its total."""
    taken: list[FloatArray] = field(default_factory=list)
    free: dict[str, Counter[str]] = field(default_factory=dict)
    """Of a listable space, how many designs could be chosen when the round began, by parameter and its value."""

    def room(self, name: str, values: list[Level]) -> float:
        """Count the designs with one of some values of a parameter that may still be chosen; infinite where none lists them."""
        space = self.data.space
        if not space.listable:
            return np.inf
        if name not in self.free:
            X = space.listing()
            self.free[name] = _values(space, name, X[space.fresh(X, known=self.data.taken)])
        used = sum((_values(space, name, X) for X in self.taken), Counter[str]())
        return sum(self.free[name][one] - used[one] for one in map(canonical_text, values))


def choose_within(
    config: RoundConfig, pools: Mapping[str, Pool], posterior: Posterior | None, data: Dataset, wells: Mapping[str, int],
    terms: Terms, *, choose: Chooser, seed: int, number: int, rounds: int,
) -> dict[str, Picks]:  # fmt: skip
    """Let every arm choose within the terms; each pick says which part of the plates it is for.

    Args:
        wells: designs that each arm chooses.
        choose: how arms choose without terms, see `labloop.proposing.pipeline.choose`.

    Raises:
        MethodError: the arms' pools hold too few designs within the limits.
    """
    setting = {"seed": seed, "number": number, "rounds": rounds}
    work = _Work(config, posterior, data, terms, choose, setting)
    sizes = terms.sizes(sum(wells.values()))
    by_hand = {name: wells[name] for name in config.by_hand if wells.get(name)}
    arms = [name for name in config.arms if wells.get(name) and name not in by_hand]
    listed: dict[str, Picks] = {}
    if by_hand:
        begun = Placement.of(terms, sum(wells.values()))
        listed = {name: _as_listed(work, begun, name, pools[name], n) for name, n in by_hand.items()}
        work.levels.update(begun.levels)
        sizes = begun.rest(sum(wells[name] for name in arms))
    shares = apportion(np.array(sizes), np.array([wells[name] for name in arms]), generator(seed, "round", number, "limits"))
    for r, resource in enumerate(terms.resources):
        for i, size in enumerate(sizes):
            key = (r, terms.scope(resource.limit, i))
            work.left[key] = begun.left[key] if by_hand else resource.total
            work.open[key] = work.open.get(key, 0) + size
    offers = {name: _offer(work, name, pools[name]) for name in arms}
    work.reserve.extend([_reserve(work, r, offers) for r in range(len(terms.resources))])
    found: dict[str, list[Picks]] = {name: [] for name in arms}
    work.taken.extend(picks.pool.X for picks in listed.values())
    for i, share in enumerate(shares.tolist()):
        here = {name: n for name, n in zip(arms, share, strict=True) if n}
        if not here:  # a part of fewer wells than a design takes
            continue
        for name, picks in _part(work, i, here, {name: offers[name] for name in here}).items():
            found[name].append(picks)
    for (name, _, scope), values in work.levels.items():
        log.info("%s has %s in %s", name, ", ".join(map(canonical_text, values)), f"part {scope}" if scope else "the round")
    chosen = {name: _by_turns(Picks.joined(several), terms.space) for name, several in found.items()} | listed
    return {name: chosen[name] for name in config.arms if name in chosen}


def _as_listed(work: _Work, begun: Placement, name: str, pool: Pool, n: int) -> Picks:
    """Take the first n designs of a person's list that find a place, in the list's order."""
    held = {one for X in work.taken for one in work.data.space.ids(X)}
    rows = np.array([i for i, one in enumerate(pool.ids) if one not in work.data.taken and one not in held], dtype=np.int64)
    parts: list[int | str] = []
    for i in rows.tolist():
        full = sum(isinstance(one, int) for one in parts) == n
        parts += ["beyond the arm's wells"] if full else begun.place(work.terms.space.decode(pool.X[i : i + 1]))
    good = [k for k, one in enumerate(parts) if isinstance(one, int)]
    if len(good) < n:
        why = next(str(one) for one in parts if isinstance(one, str)) if len(good) < len(parts) else "the list has no more"
        raise MethodError(
            f"arm {name} has {len(good)} designs for {n} that keep the limits: {why}; pick another list (labloop pick)"
        )
    picks = explain(pool.take(rows[good]), work.posterior or _nobody, work.data, 1.0)
    return replace(picks, part=np.array([parts[k] for k in good], dtype=np.int64))


def _reserve(work: _Work, r: int, offers: Mapping[str, _Offer]) -> float:
    resource = work.terms.resources[r]
    if not resource.graded:
        return resource.least
    amounts = np.concatenate([resource.amounts(work.terms.space.decode(one.pool.X)) for one in offers.values()])
    fair = min(work.left[key] / max(n, 1) for key, n in work.open.items() if key[0] == r)
    usual = float(np.quantile(amounts, 0.25)) if len(amounts) else 0.0
    return max(resource.least, min(usual, fair))


def _by_turns(picks: Picks, space: DesignSpace) -> Picks:
    """Order an arm's picks: every part's first, every part's second, …"""
    assert picks.part is not None
    place = np.zeros(len(picks), dtype=np.int64)
    for part in np.unique(picks.part):
        mine = picks.part == part
        place[mine] = np.arange(mine.sum())
    ordered = picks.take(np.argsort(place, kind="stable"))
    return replace(ordered, pool=replace(ordered.pool, space=space))


def _offer(work: _Work, name: str, pool: Pool) -> _Offer:
    """Order an arm's pool as its selector would, as far as that can tell; the rest follows as offered."""
    ((selector, options),) = work.config.arms[name].selector.items()
    told = ramped(options, round_number=work.setting["number"], rounds=work.setting["rounds"])
    made = create("selectors", selector, {**told, **({"refine": 0} if "refine" in told else {})})
    order: list[int] = []
    place = {one: i for i, one in enumerate(pool.ids)}
    n = len(set(pool.ids) - work.data.taken)
    while n and not order and (work.posterior is not None or selector in ("as_proposed", "random")):
        try:
            seed = derive(work.setting["seed"], "round", work.setting["number"], "select", name)
            picks = made.select(pool, work.posterior or _nobody, work.data, n, seed=seed)
            order = [place[one] for one in picks.pool.ids if one in place]
        except MethodError:
            n //= 2
    ordered = set(order)
    order += [i for i, one in enumerate(pool.ids) if i not in ordered and one not in work.data.taken]
    return _Offer(pool=pool.take(np.array(order, dtype=np.int64)), worth=np.linspace(1, 0, len(order) + 1)[:-1])


def _nobody(X: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.full(len(X), np.nan), np.full(len(X), np.nan)


def _part(work: _Work, part: int, here: Mapping[str, int], offers: Mapping[str, _Offer]) -> dict[str, Picks]:
    """Choose the levels of one part, then its designs."""
    rules = []
    for name, limit in work.terms.levels:
        values = work.levels.setdefault((name, id(limit), work.terms.scope(limit, part)), [])
        assert limit.at_most is not None
        by_level = _by_level(work, name, here, offers, values if len(values) == limit.at_most else None)
        while len(values) < limit.at_most:
            gains = {level: _gain(work, name, by_level, [*values, level], here) for level in by_level if level not in values}
            if not gains:
                break
            best = max(gains, key=lambda level: (*gains[level], str(level)))
            full, worth = _gain(work, name, by_level, values, here)
            if values and gains[best] <= (full, worth + 1e-9):
                break
            values.append(best)
        offers = {arm: _together([by_level[value][arm] for value in values if value in by_level]) for arm in here}
        rules.append(Allowed(parameter=name, values=tuple(values)))
    return _filled(work, part, here, offers, narrowed(work.data.space, *rules))


def _values(space: DesignSpace, name: str, X: FloatArray) -> Counter[str]:
    return Counter(map(canonical_text, space.decode(X)[name].tolist()))


Gain = tuple[float, float]
"""How many of a part's designs there are at some levels, and what the best of them are worth: a full part comes first."""


def _gain(
    work: _Work, name: str, by_level: Mapping[Level, Mapping[str, _Offer]], values: list[Level], here: Mapping[str, int]
) -> Gain:  # fmt: skip
    return min(work.room(name, values), sum(here.values())), _worth(by_level, values, here)


def _worth(by_level: Mapping[Level, Mapping[str, _Offer]], values: list[Level], here: Mapping[str, int]) -> float:
    """Sum the worth of the best designs that every arm would have at these levels, as many as it has wells."""
    total = 0.0
    for arm, n in here.items():
        every = np.concatenate([np.zeros(0), *(by_level[value][arm].worth for value in values if value in by_level)])
        total += float(-np.sort(-every)[:n].sum())
    return total


def _by_level(
    work: _Work, name: str, here: Mapping[str, int], offers: Mapping[str, _Offer], only: list[Level] | None
) -> dict[Level, dict[str, _Offer]]:  # fmt: skip
    """Give what each arm could choose at each level: the designs that have it, and the others moved there."""
    space = work.data.space
    candidates = only if only is not None else _candidates(work, name, here, offers)
    found: dict[Level, dict[str, _Offer]] = {level: {} for level in candidates}
    for arm, n in here.items():
        offer = offers[arm]
        cells = space.decode(offer.pool.X)[name].tolist() if len(offer.pool) else []
        texts = np.array([canonical_text(cell) for cell in cells], dtype=object)
        own = _means(work.posterior, offer.pool.X)
        for level in candidates:
            match = np.flatnonzero(texts == canonical_text(level))
            others = np.flatnonzero(texts != canonical_text(level))[: max(MOVED, 4 * n)]
            found[level][arm] = _together([
                _Offer(pool=offer.pool.take(match), worth=offer.worth[match]),
                _moved(work, offer, others, name, level, own),
            ])  # fmt: skip
    return found


def _candidates(work: _Work, name: str, here: Mapping[str, int], offers: Mapping[str, _Offer]) -> list[Level]:
    """List the values that could be levels: those of what the arms like best, or all where none of these has designs enough."""
    space = work.data.space
    parameter = next(one for one in space if one.name == name)
    if isinstance(parameter, Choice):
        return list(parameter.options)
    values = [space.decode(offers[arm].pool.X[: 4 * n])[name].to_numpy() for arm, n in here.items()]
    distinct = np.unique(np.concatenate(values))
    some: list[Level] = distinct[
        np.unique(np.linspace(0, len(distinct) - 1, min(LEVELS, len(distinct))).round().astype(int))
    ].tolist()
    if any(work.room(name, [value]) >= sum(here.values()) for value in some):
        return some
    return np.unique(space.decode(space.listing())[name].to_numpy()).tolist()  # type: ignore[no-any-return]


def _means(posterior: Posterior | None, X: FloatArray) -> FloatArray | None:
    return None if posterior is None or not len(X) else np.sort(posterior(X)[0])


def _moved(work: _Work, offer: _Offer, rows: Array, name: str, level: Level, own: FloatArray | None) -> _Offer:
    """Move an arm's designs to a level; worth what the judge puts them at among its own, else less than they were."""
    space = work.data.space
    X, worth, proposer = offer.pool.X[rows].copy(), offer.worth[rows], offer.pool.proposer[rows]
    if len(rows):
        parameter, block = next((p, b) for p, b in zip(space.parameters, space.blocks, strict=True) if p.name == name)
        table = space.decode(X[:1])
        table[name] = [level]
        X[:, block.start : block.stop] = parameter.encode(parameter.parse(table)[0])
        X = space.canonical(X)
        good = space.feasible(X)
        keep = np.flatnonzero(good)[space.fresh(X[good], known=work.data.taken)] if good.any() else np.zeros(0, dtype=np.int64)
        X, worth, proposer = X[keep], worth[keep], proposer[keep]
    if len(X):
        if own is not None and work.posterior is not None:
            worth = np.minimum(np.searchsorted(own, work.posterior(X)[0]) / len(own), 1 - 1e-6)
        worth = worth - 1e-6
    pool = Pool(
        space=space, X=X, score=np.full(len(X), np.nan), proposer=proposer, ids=tuple(space.ids(X)), notes=offer.pool.notes
    )
    return _Offer(pool=pool, worth=worth)


def _together(several: list[_Offer]) -> _Offer:
    """Join offers, the worthiest first, each design once."""
    pool = Pool(
        space=several[0].pool.space, X=np.concatenate([one.pool.X for one in several]),
        score=np.concatenate([one.pool.score for one in several]),
        proposer=np.concatenate([one.pool.proposer for one in several]),
        ids=tuple(one for offer in several for one in offer.pool.ids), notes=several[0].pool.notes,
    )  # fmt: skip
    worth = np.concatenate([one.worth for one in several])
    order = np.argsort(-worth, kind="stable")
    ids = np.array(pool.ids, dtype=object)[order].astype(str)
    keep = order[np.sort(np.unique(ids, return_index=True)[1])] if len(order) else order
    return _Offer(pool=pool.take(keep), worth=worth[keep])


def _filled(
    work: _Work, part: int, here: Mapping[str, int], offers: Mapping[str, _Offer], space: DesignSpace
) -> dict[str, Picks]:  # fmt: skip
    """Let the arms choose a part's designs; those beyond a total make room for the next ones that are not."""
    need, kept = dict(here), {arm: list[Picks]() for arm in here}
    keys = [(r, work.terms.scope(one.limit, part)) for r, one in enumerate(work.terms.resources)]
    for _ in range(REFILLS):
        held = np.concatenate([work.data.pending, *work.taken]) if work.taken else work.data.pending
        data = replace(work.data, space=space, pending=held)
        pools = {arm: _enough(work, arm, offers[arm].pool, keys, data, n) for arm, n in need.items()}
        if len({one for pool in pools.values() for one in pool.ids}) < sum(need.values()):
            pools = {arm: _with_any(work, arm, pool, keys, data, sum(need.values())) for arm, pool in pools.items()}
        config = work.config.model_copy(update={"arms": {arm: work.config.arms[arm] for arm in need}})
        try:
            picks = work.choose(config, pools, work.posterior, data, need, **work.setting)
        except MethodError as error:
            raise MethodError(f"{error}; the campaign's limits leave these: loosen one of them (limits, budget)") from error
        refused = _accept(work, part, picks, keys, kept)
        if not refused:
            return {arm: Picks.joined(several) for arm, several in kept.items() if several}
        need = {arm: sum(owner == arm for owner in refused.values()) for arm in need}
        need = {arm: n for arm, n in need.items() if n}
    raise MethodError(f"no batch was found within limits after {REFILLS} tries: raise a total, or pools (arms.*.pool)")


def _enough(work: _Work, arm: str, pool: Pool, keys: list[tuple[int, tuple[int, ...]]], data: Dataset, n: int) -> Pool:
    """Keep what may be chosen; where that is little, add its neighbours, then any others: no proposer has an opinion of them."""
    kept = _affordable(work, pool, keys, data)
    rng = generator(work.setting["seed"], "round", work.setting["number"], "enough")
    for steps in (1, 2, 3):
        if len(kept) >= 3 * n or not len(pool):
            break
        parents = np.arange(max(4 * n, 64)) % len(pool)
        X = data.space.mutate(pool.X[parents], rng, steps=steps)
        kept = _joined(work, kept, X, pool.proposer[parents], keys, data)
    return kept if len(kept) >= n else _with_any(work, arm, kept, keys, data, n)


def _with_any(work: _Work, arm: str, kept: Pool, keys: list[tuple[int, tuple[int, ...]]], data: Dataset, n: int) -> Pool:
    """Add whatever else there is to choose from behind a pool."""
    rng = generator(work.setting["seed"], "round", work.setting["number"], "any")
    X = rng.permutation(data.space.listing()) if data.space.listable else data.space.sample(max(4 * n, 64), rng)
    return _joined(work, kept, X, np.full(len(X), next(iter(work.config.arms[arm].proposers)), dtype=object), keys, data)


def _joined(
    work: _Work, kept: Pool, X: FloatArray, proposer: Array, keys: list[tuple[int, tuple[int, ...]]], data: Dataset
) -> Pool:  # fmt: skip
    """Add those of some designs X (m, d) that may be chosen and are not there behind a pool."""
    good = np.flatnonzero(data.space.feasible(X))
    good = good[data.space.fresh(X[good], known={*data.taken, *kept.ids})]
    more = Pool(
        space=kept.space, X=X[good], score=np.full(len(good), np.nan), proposer=proposer[good],
        ids=tuple(data.space.ids(X[good])), notes=kept.notes,
    )  # fmt: skip
    more = _affordable(work, more, keys, data)
    return _together([_Offer(pool=one, worth=np.full(len(one), -float(i))) for i, one in enumerate((kept, more))]).pool


def _affordable(work: _Work, pool: Pool, keys: list[tuple[int, tuple[int, ...]]], data: Dataset) -> Pool:
    """Keep the designs of a pool that every total has room for, whatever the ones after them are."""
    good = np.array([one not in data.taken for one in pool.ids], dtype=bool)
    table = work.terms.space.decode(pool.X) if len(pool) and keys else None
    for key in keys if table is not None else ():
        resource = work.terms.resources[key[0]]
        good &= resource.amounts(table) <= work.left[key] - work.reserve[key[0]] * (work.open[key] - 1) + 1e-9  # type: ignore[arg-type]
    return pool.take(np.flatnonzero(good))


def _accept(
    work: _Work, part: int, picks: Mapping[str, Picks], keys: list[tuple[int, tuple[int, ...]]], kept: dict[str, list[Picks]]
) -> dict[str, str]:  # fmt: skip
    """Take picks by turns as long as all totals have room; returns the designs that have not, with whose they were."""
    taken: set[str] = set()
    refused: dict[str, str] = {}
    rows: dict[str, list[int]] = {arm: [] for arm in picks}
    costs = {arm: _costs(work, chosen, keys) for arm, chosen in picks.items()}
    for i in range(max(map(len, picks.values()))):
        for arm, chosen in picks.items():
            if i >= len(chosen):
                continue
            one = chosen.pool.ids[i]
            if one not in taken and one not in refused:
                if all(
                    cost[i] <= work.left[key] - work.reserve[key[0]] * (work.open[key] - 1) + 1e-9
                    for key, cost in zip(keys, costs[arm], strict=True)
                ):
                    taken.add(one)
                    for key, cost in zip(keys, costs[arm], strict=True):
                        work.left[key] -= float(cost[i])
                        work.open[key] -= 1
                else:
                    refused[one] = arm
            if one in taken:
                rows[arm].append(i)
    for arm, chosen in picks.items():
        if rows[arm]:
            some = chosen.take(np.array(rows[arm]))
            kept[arm].append(replace(some, part=np.full(len(some), part)))
            work.taken.append(some.pool.X)
    return refused


def _costs(work: _Work, picks: Picks, keys: list[tuple[int, tuple[int, ...]]]) -> list[Any]:
    if not keys:
        return []
    table = work.terms.space.decode(picks.pool.X)
    return [work.terms.resources[r].amounts(table) for r, _ in keys]
