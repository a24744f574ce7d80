"""Two functions of the optimisation literature as labs: smooth, without noise unless asked for, their minimum known.

Both are minimised, as they are where they come from: a campaign on them says `direction: min`.

1. Hartmann in six dimensions (L. Hartman, Commun. ACM 16(2), 1973; constants as in Dixon and Szegő, 1978):

       f(x) = -Σ_i α_i exp(-Σ_j A_ij (x_j - P_ij)²)        x in [0, 1]⁶        min f = -3.32237

2. Levy (A. V. Levy and A. Montalvo, SIAM J. Sci. Stat. Comput. 6(1), 1985), here in ten dimensions, with w = 1 + (x - 1)/4:

       f(x) = sin²(πw_1) + Σ_{i<d} (w_i - 1)² (1 + 10 sin²(πw_i + 1)) + (w_d - 1)² (1 + sin²(2πw_d))
       x in [-10, 10]^d        min f = 0 at (1, …, 1)
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from labloop.registry import plugin
from labloop.seeds import derive
from labloop.space.design_space import DesignSpace
from labloop.space.parameters import Real
from labloop.studies.labs.lookup import Noise, Share, readings
from labloop.types import FloatArray

_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A = np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]])
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(x: FloatArray) -> FloatArray:
    """Compute Hartmann's function of x (n, 6) in [0, 1]: (n,), lower is better."""
    return -(np.exp(-(_A * (x[:, None, :] - _P) ** 2).sum(-1)) @ _ALPHA)


def levy(x: FloatArray) -> FloatArray:
    """Compute Levy's function of x (n, d) in [-10, 10]: (n,), lower is better."""
    w = 1 + (x - 1) / 4
    first, inner, last = w[:, 0], w[:, :-1], w[:, -1]
    bumps = (inner - 1) ** 2 * (1 + 10 * np.sin(np.pi * inner + 1) ** 2)
    return np.sin(np.pi * first) ** 2 + bumps.sum(1) + (last - 1) ** 2 * (1 + np.sin(2 * np.pi * last) ** 2)  # type: ignore[no-any-return]


@plugin
class Hartmann6:
    """Hartmann's function of six numbers in [0, 1], to be minimised: six local minima, the global one is -3.32237."""

    noise: Noise = 0.0
    """Standard deviation of normal noise added to each reading; the function's own over the cube is 0.38."""
    failures: Share = 0.0
    """Share of wells that fail for technical reasons: their value is NaN."""

    @property
    def space(self) -> DesignSpace:
        """Columns x1 to x6."""
        return _numbers(6, 0, 1)

    @property
    def optimum(self) -> tuple[pd.DataFrame, float]:
        """The best design, to six digits, and its value."""
        x = np.array([[0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573]])
        return pd.DataFrame(x, columns=list(self.space.columns)), float(hartmann6(x)[0])

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Compute the value of designs: a table of `value` and `status` (`ok`, `failed_technical`) in the same order.

        Raises:
            DesignError: a design is not of this lab's space.
        """
        x = self.space.encode(designs)
        return readings(hartmann6(x), noise=self.noise, failures=self.failures, seed=derive(seed, "hartmann6"))


@plugin
class Levy10:
    """Levy's function of ten numbers in [-10, 10], to be minimised: rippled, the global minimum is 0 where all are 1."""

    noise: Noise = 0.0
    """Standard deviation of normal noise added to each reading; the function's own over the cube is 48."""
    failures: Share = 0.0
    """Share of wells that fail for technical reasons: their value is NaN."""

    @property
    def space(self) -> DesignSpace:
        """Columns x1 to x10."""
        return _numbers(10, -10, 10)

    @property
    def optimum(self) -> tuple[pd.DataFrame, float]:
        """The best design and its value."""
        return pd.DataFrame(np.ones((1, 10)), columns=list(self.space.columns)), 0.0

    def measure(self, designs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
        """Compute the value of designs: a table of `value` and `status` (`ok`, `failed_technical`) in the same order.

        Raises:
            DesignError: a design is not of this lab's space.
        """
        x = 20 * self.space.encode(designs) - 10
        return readings(levy(x), noise=self.noise, failures=self.failures, seed=derive(seed, "levy10"))


def _numbers(d: int, low: float, high: float) -> DesignSpace:
    return DesignSpace(parameters=tuple(Real(name=f"x{i}", low=low, high=high) for i in range(1, d + 1)))
