"""Which arms of a round take part in a simulation, and proposers that are arms of their own there."""

from __future__ import annotations

from collections.abc import Sequence

from labloop.config.round import Arm, RoundConfig
from labloop.errors import ConfigError
from labloop.proposing.checks import check_judge
from labloop.registry import available


def pick_arms(config: RoundConfig, names: Sequence[str] | None, *, split: bool) -> RoundConfig:
    """Keep the arms asked for; a name that is no arm of the configuration may be a proposer of its own.

    Args:
        names: all arms where None.
        split: into their proposers.

    Raises:
        ConfigError: a name is unknown, or an arm needs a judge that the round does not have.
    """
    arms = dict(config.arms)
    if split:
        arms = {}
        for name, arm in config.arms.items():
            alone = {p: arm.model_copy(update={"proposers": {p: options}}) for p, options in arm.proposers.items()}
            arms.update({name: arm} if len(alone) == 1 else alone)
    chosen = {} if names is not None else arms
    for name in names or ():
        if name in arms or name in config.arms:
            chosen[name] = arms.get(name) or config.arms[name]
        elif name in available("proposers") or ":" in name:
            chosen[name] = _alone(name, config)
        else:
            raise ConfigError(
                f"arm {name!r} is neither an arm of the round ({', '.join(arms)}) "
                f"nor a proposer ({', '.join(available('proposers'))})"
            )
    picked = config.model_copy(update={"arms": chosen})
    check_judge(picked)
    return picked


def _alone(name: str, config: RoundConfig) -> Arm:
    """Make a proposer an arm of its own; the judge as a proposer is selected from as the first arm is that has a selector."""
    selecting = [arm for arm in config.arms.values() if set(arm.selector) != {"as_proposed"}]
    if name == "judge_only" and selecting:
        return selecting[0].model_copy(update={"proposers": {name: {}}})
    return Arm(proposers={name: {}})
