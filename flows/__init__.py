"""Prefect flows over labloop's verbs. Imported as `labloop.flows`; needs `pip install 'labloop-toolkit[flows]'`.

A flow holds nothing: every task calls one verb of `labloop.Campaign` with names and paths, the ledger keeps what came of it,
and a flow that was killed is simply run again.
"""

from .ask import explain_judge, predict_designs
from .benchmark import run_benchmark
from .decide import backtest_arms, pick_designs, plan_plate, veto_well
from .mendable import log_plainly
from .round import close_round, propose_round
from .simulate import simulated_campaign
from .study import run_study
from .tick import tick

__all__ = [
    "backtest_arms", "close_round", "explain_judge", "pick_designs", "plan_plate", "predict_designs", "propose_round",
    "run_benchmark", "run_study", "simulated_campaign", "tick", "veto_well",
]  # fmt: skip

log_plainly()
