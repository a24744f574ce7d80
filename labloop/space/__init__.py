"""What can be designed, and what better means: parameters, constraints, the design space, the objective."""

from __future__ import annotations

from labloop.space.design_space import DesignSpace
from labloop.space.objective import Objective

__all__ = ["DesignSpace", "Objective"]
