"""Which levels the parts of a batch have, where a limit allows only so many values of a parameter in each.

With a judge a level is worth what the arms' best designs there are; an arm that does not choose by the judge keeps its own order.
Without one nobody knows which level is good, so that parts take turns: the level that fewest designs have, and of a number's
values the one farthest from those that are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from labloop.config.round import RoundConfig
from labloop.proposing.dataset import Dataset
from labloop.proposing.pool import Picks, Pool, by_shares
from labloop.proposing.protocols import Posterior
from labloop.proposing.room import Left, Level, Listed
from labloop.proposing.search import keys
from labloop.proposing.terms import Terms
from labloop.seeds import generator
from labloop.space.constraints import Allowed
from labloop.space.design_space import DesignSpace
from labloop.space.parameter import canonical_text
from labloop.space.parameters import Choice
from labloop.types import Array, FloatArray

LEVELS = 24
"""Values of a number that are weighed as levels, at most."""
MOVED = 256
"""Candidates of an arm that are moved to levels, at least; four times its wells where that is more."""
UNJUDGED = frozenset({"as_proposed", "random"})
"""Selectors that choose alike whatever a judge says."""

Chooser = Callable[..., dict[str, Picks]]
Room = Callable[[list[Level]], int]
"""Says of values of a limited parameter how many of the designs that are needed they leave."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Offer:
    """What an arm may choose from, best first: a pool with each design's place in the arm's own order, from 1 to 0."""

    pool: Pool
    worth: FloatArray


@dataclass(frozen=True, eq=False)
class Work:
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
    found: dict[str, list[Picks]] = field(default_factory=dict)
    """What each arm has in the parts so far."""
    sizes: list[int] = field(default_factory=list)
    """Designs of each part that are not listed by people."""

    @cached_property
    def listed(self) -> Listed:
        """What a listable space has."""
        return Listed.of(self.data, self.terms)

    def judged(self, arm: str) -> bool:
        """Whether an arm chooses by what the judge says."""
        return self.posterior is not None and not set(self.config.arms[arm].selector) <= UNJUDGED

    def room(self, at: int, part: int) -> Room:
        """Count what values of a limited parameter leave of the designs that are needed in a part, and in all parts to come that
        the limit holds for together; nothing in a space that cannot be listed.

        Args:
            at: the limit, by its position; those before it are settled for this part.
        """
        if not self.data.space.listable:
            return lambda values: 0
        self.listed.take(self.taken)
        name, limit = self.terms.levels[at]
        same = tuple(i for i in range(part, len(self.sizes)) if self.terms.scope(limit, i) == self.terms.scope(limit, part))
        counts = [
            (self.listed.counter(name, self._within(at, parts)), sum(self.sizes[i] for i in parts))
            for parts in dict.fromkeys([(part,), same])
        ]
        return lambda values: sum(min(count(values), needed) for count, needed in counts)

    def _within(self, at: int, parts: tuple[int, ...]) -> Left:
        """Gather the other limits that hold alike for several parts, the first of which is being filled."""
        fixed, open_ = [], []
        for i, (name, limit) in enumerate(self.terms.levels):
            if i != at and len({self.terms.scope(limit, part) for part in parts}) == 1:
                assert limit.at_most is not None
                values = self.levels.get((name, id(limit), self.terms.scope(limit, parts[0])), [])
                if len(values) == limit.at_most or (i < at and len(parts) == 1):
                    fixed.append((name, values))
                else:
                    open_.append((name, values, limit.at_most - len(values)))
        totals = []
        for r, resource in enumerate(self.terms.resources):
            key = (r, self.terms.scope(resource.limit, parts[0]))
            if len({self.terms.scope(resource.limit, part) for part in parts}) == 1:
                totals.append((r, self.left[key] - self.reserve[r] * self.open[key], self.reserve[r]))
        return Left(fixed=fixed, open=open_, totals=totals)


def at_levels(
    work: Work, part: int, here: Mapping[str, int], offers: Mapping[str, Offer]
) -> tuple[dict[str, Offer], list[Allowed]]:  # fmt: skip
    """Choose the levels of one part; returns what the arms may choose from there, and the rules that its designs keep."""
    rules, found = [], {arm: _left(work, arm, offers[arm]) for arm in here}
    for at, (name, limit) in enumerate(work.terms.levels):
        values = work.levels.setdefault((name, id(limit), work.terms.scope(limit, part)), [])
        assert limit.at_most is not None
        if len(values) < limit.at_most:
            room = work.room(at, part)
            candidates = _candidates(work, at, here, found, values, room)
        by_level = _by_level(work, name, here, found, values if len(values) == limit.at_most else candidates)
        while len(values) < limit.at_most:
            gains = {
                level: (room([*values, level]), _worth(by_level, [*values, level], here))
                for level in by_level
                if level not in values
            }
            if not gains:
                break
            turns = {} if any(map(work.judged, here)) else _turns(work, name, values, list(gains))
            best = max(gains, key=lambda level: _rank(work, gains[level], turns.get(level, (0.0, 0.0)), level))
            full, worth = room(values), _worth(by_level, values, here)
            if values and work.posterior is not None and gains[best] <= (full, worth + 1e-9):
                break
            values.append(best)
        there = [value for value in values if value in by_level]
        every = {arm: together([by_level[value][arm] for value in there]) for arm in here}
        found = {
            arm: every[arm] if work.judged(arm) else _once(work, name, found[arm], there, every[arm], n)
            for arm, n in here.items()
        }
        rules.append(Allowed(parameter=name, values=tuple(values)))
    return {arm: _by_turns(work, arm, offer) for arm, offer in found.items()}, rules


def _rank(work: Work, gain: Gain, turn: tuple[float, float], level: Level) -> tuple[int | float | str, ...]:
    """Order levels; whose turn it is comes first only where nobody can judge them."""
    full, worth = gain
    return (full, *turn, worth, str(level)) if work.posterior is None else (full, worth, *turn, str(level))


def _left(work: Work, arm: str, offer: Offer) -> Offer:
    """Leave out what earlier parts took; where no judge tells levels apart, what the arm has there at another level, too."""
    if not work.taken:
        return offer
    gone = {key for X in work.taken for key in keys(X)}
    left = np.array([key not in gone for key in keys(offer.pool.X)], dtype=bool)
    if not work.judged(arm) and work.found[arm]:
        space, limited = work.data.space, {name for name, _ in work.terms.levels}
        columns = np.ones(space.d, dtype=bool)
        for parameter, block in zip(space.parameters, space.blocks, strict=True):
            columns[block.start : block.stop] = parameter.name not in limited
        bare = keys(offer.pool.X[:, columns])
        moved = Counter(key for picks in work.found[arm] for key in keys(picks.pool.X[:, columns]))
        moved.subtract(bare[i] for i in np.flatnonzero(~left))
        for i in np.flatnonzero(left):
            if moved[bare[i]] > 0:
                left[i] = False
                moved[bare[i]] -= 1
    rows = np.flatnonzero(left)
    return Offer(pool=offer.pool.take(rows), worth=offer.worth[rows]) if len(rows) else offer


def _by_turns(work: Work, arm: str, offer: Offer) -> Offer:
    """Let an arm's proposers have their turns again, as designs that are moved may come to be one."""
    names = list(dict.fromkeys(offer.pool.proposer.tolist()))
    if not work.config.arms[arm].as_proposed or len(names) < 2:
        return offer
    shares = work.config.arms[arm].shares or {}
    had = Counter(name for picks in work.found[arm] for name in picks.pool.proposer.tolist())
    of = [np.flatnonzero(offer.pool.proposer == name) for name in names]
    turns = by_shares([offer.pool.take(rows) for rows in of], [shares.get(n, 1) for n in names], [had[n] for n in names])
    return Offer(pool=offer.pool.take(np.concatenate(of)[turns]), worth=offer.worth)


def _turns(work: Work, name: str, values: list[Level], levels: list[Level]) -> dict[Level, tuple[float, float]]:
    """Say of levels how much it is their turn where nobody can judge them: those of fewest designs, then those far away."""
    there = _values(work.data.space, name, np.concatenate([work.data.X, work.data.pending, *work.taken]))
    there.update(map(canonical_text, values))
    told = {}
    for level in levels:
        far = min((abs(level - float(one)) for one in there), default=0.0) if not isinstance(level, str) else 0.0
        told[level] = (-float(there[canonical_text(level)]), far)
    return told


def _values(space: DesignSpace, name: str, X: FloatArray) -> Counter[str]:
    return Counter(map(canonical_text, space.decode(X)[name].tolist()))


Gain = tuple[float, float]
"""How many of the designs that are needed some levels leave, and what the best of them are worth: full parts come first."""


def _worth(by_level: Mapping[Level, Mapping[str, Offer]], values: list[Level], here: Mapping[str, int]) -> float:
    """Sum the worth of the best designs that every arm would have at these levels, as many as it has wells."""
    total = 0.0
    for arm, n in here.items():
        every = np.concatenate([np.zeros(0), *(by_level[value][arm].worth for value in values if value in by_level)])
        total += float(-np.sort(-every)[:n].sum())
    return round(total, 9)  # what is equal by more than rounding is equal


def _by_level(
    work: Work, name: str, here: Mapping[str, int], offers: Mapping[str, Offer], candidates: list[Level]
) -> dict[Level, dict[str, Offer]]:  # fmt: skip
    """Give what each arm could choose at each level: the designs that have it, and the others moved there."""
    space = work.data.space
    found: dict[Level, dict[str, Offer]] = {level: {} for level in candidates}
    for arm, n in here.items():
        offer = offers[arm]
        cells = space.decode(offer.pool.X)[name].tolist() if len(offer.pool) else []
        texts = np.array([canonical_text(cell) for cell in cells], dtype=object)
        own = _means(work.posterior, offer.pool.X) if work.judged(arm) else None
        for level in candidates:
            match = np.flatnonzero(texts == canonical_text(level))
            others = np.flatnonzero(texts != canonical_text(level))[: max(MOVED, 4 * n)]
            found[level][arm] = together([
                Offer(pool=offer.pool.take(match), worth=offer.worth[match]),
                _moved(work, offer, others, name, level, own),
            ])  # fmt: skip
    return found


def _once(work: Work, name: str, offer: Offer, levels: list[Level], every: Offer, n: int) -> Offer:
    """Give each design of an arm that no judge orders at one level: its own, else a number's nearest, or an option that is drawn.

    Where that is not possible its next level takes it; where they are fewer than `n`, copies at further levels stand behind.

    Args:
        every: the arm's designs at every level.
    """
    space = work.data.space
    cells = space.decode(offer.pool.X)[name].tolist() if len(offer.pool) else []
    texts = set(map(canonical_text, levels))
    own = np.array([canonical_text(cell) in texts for cell in cells], dtype=bool)
    rows = np.flatnonzero(~own)[: max(MOVED, 4 * n)]
    several = [Offer(pool=offer.pool.take(np.flatnonzero(own)), worth=offer.worth[own])]
    known = {*work.data.taken, *several[0].pool.ids, *(one for X in work.taken for one in space.ids(X))}
    turns = {i: _turns_of(work, levels, cells[i], offer.pool.ids[i]) for i in rows.tolist()}
    for turn in range(len(levels)):
        for level in levels:
            there = np.array([i for i in turns if canonical_text(turns[i][turn]) == canonical_text(level)], dtype=np.int64)
            moved, kept = _at(work, offer, there, name, level, known)
            several.append(moved)
            known.update(moved.pool.ids)
            turns = {i: order for i, order in turns.items() if i not in set(kept.tolist())}
    once = together(several)
    return once if len(once.pool) >= n else together([once, replace(every, worth=every.worth - 2)])


def _turns_of(work: Work, levels: list[Level], cell: Level, design: str) -> list[Level]:
    """Order levels for a design: a number's by their distance, options by chance, alike for all arms."""
    if isinstance(cell, str):
        order = generator(work.setting["seed"], "level", design).permutation(len(levels))
        return [levels[i] for i in order.tolist()]
    return sorted(levels, key=lambda level: abs(float(level) - float(cell)))


def _candidates(
    work: Work, at: int, here: Mapping[str, int], offers: Mapping[str, Offer], values: list[Level], room: Room
) -> list[Level]:  # fmt: skip
    """List the values that could be levels: those of what the arms like best, or all where these leave fewer designs."""
    space, (name, limit) = work.data.space, work.terms.levels[at]
    parameter = next(one for one in space if one.name == name)
    if isinstance(parameter, Choice):
        return list(parameter.options)
    liked = [space.decode(offers[arm].pool.X[: 4 * n])[name].to_numpy() for arm, n in here.items()]
    distinct = np.unique(np.concatenate(liked))
    some: list[Level] = distinct[
        np.unique(np.linspace(0, len(distinct) - 1, min(LEVELS, len(distinct))).round().astype(int))
    ].tolist()
    if not space.listable:
        return some
    every: list[Level] = np.unique(work.listed.values[name].astype(float)).tolist()

    def most(levels: list[Level]) -> int:
        """Count what the values of most designs leave, as many as the limit allows."""
        return room([*values, *sorted(levels, key=lambda level: -room([level]))[: (limit.at_most or 0) - len(values)]])

    return some if most(some) >= most(every) else every


def _means(posterior: Posterior | None, X: FloatArray) -> FloatArray | None:
    return None if posterior is None or not len(X) else np.sort(posterior(X)[0])


def _moved(work: Work, offer: Offer, rows: Array, name: str, level: Level, own: FloatArray | None) -> Offer:
    """Move an arm's designs to a level; worth what the judge puts them at among its `own`, else a little less than they were."""
    moved, _ = _at(work, offer, rows, name, level, work.data.taken)
    if own is None or work.posterior is None or not len(moved.pool):
        return moved
    return replace(moved, worth=np.minimum(np.searchsorted(own, work.posterior(moved.pool.X)[0]) / len(own), 1 - 1e-6) - 1e-6)


def _at(work: Work, offer: Offer, rows: Array, name: str, level: Level, known: Container[str]) -> tuple[Offer, Array]:
    """Move an arm's designs to a level; returns those that are new and keep all rules there, and the rows that they were."""
    space, X = work.data.space, offer.pool.X[rows].copy()
    if len(rows):
        parameter, block = next((p, b) for p, b in zip(space.parameters, space.blocks, strict=True) if p.name == name)
        table = space.decode(X[:1])
        table[name] = [level]
        X[:, block.start : block.stop] = parameter.encode(parameter.parse(table)[0])
        X = space.canonical(X)
        good = np.flatnonzero(space.feasible(X))
        kept = good[space.fresh(X[good], known=known)] if len(good) else good
        X, rows = X[kept], rows[kept]
    pool = Pool(
        space=space, X=X, score=np.full(len(X), np.nan), proposer=offer.pool.proposer[rows], ids=tuple(space.ids(X)),
        notes=offer.pool.notes,
    )  # fmt: skip
    return Offer(pool=pool, worth=offer.worth[rows] - 1e-6), rows


def together(several: list[Offer]) -> Offer:
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
    return Offer(pool=pool.take(keep), worth=worth[keep])
