"""labloop: wet-lab campaigns as rounds of offline model-based optimisation.

Public names load on first use, so that `labloop --help` and `labloop ingest` import nothing heavy.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Campaign": "labloop.campaign.facade",
    "CampaignConfig": "labloop.config.campaign",
    "Dataset": "labloop.proposing.dataset",
    "DesignSpace": "labloop.space.design_space",
    "LabloopError": "labloop.errors",
    "Objective": "labloop.space.objective",
    "Picks": "labloop.proposing.pool",
    "Pool": "labloop.proposing.pool",
    "RoundConfig": "labloop.config.round",
    "create": "labloop.registry",
    "load_config": "labloop.config.read",
    "simulate": "labloop.studies.simulate",
}

__all__ = sorted([*_PUBLIC, "__version__"])

if TYPE_CHECKING:
    from labloop.campaign.facade import Campaign as Campaign
    from labloop.config.campaign import CampaignConfig as CampaignConfig
    from labloop.config.read import load_config as load_config
    from labloop.config.round import RoundConfig as RoundConfig
    from labloop.errors import LabloopError as LabloopError
    from labloop.proposing.dataset import Dataset as Dataset
    from labloop.proposing.pool import Picks as Picks
    from labloop.proposing.pool import Pool as Pool
    from labloop.registry import create as create
    from labloop.space.design_space import DesignSpace as DesignSpace
    from labloop.space.objective import Objective as Objective
    from labloop.studies.simulate import simulate as simulate


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'labloop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


# The folder flows/ of a checkout is the package labloop.flows; an installed labloop has it inside, a bare checkout does not. Only
# this one name is added: on `__path__`, the checkout would lend its tests, its examples and a second labloop.
_flows = Path(__file__).parent.parent / "flows"


class _Flows(MetaPathFinder):
    """Finds `labloop.flows` in a bare checkout."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname != "labloop.flows":
            return None
        return spec_from_file_location(fullname, _flows / "__init__.py", submodule_search_locations=[str(_flows)])


if not (Path(__file__).parent / "flows").exists() and (_flows / "__init__.py").exists():
    sys.meta_path.insert(0, _Flows())  # before an installed labloop of another place
