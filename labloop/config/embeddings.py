"""Embeddings of options, such as a protein language model's: a safetensors file with a vector an option, under its name.

The format is read here, without its library: the length of a header in JSON, the header, and the numbers one after the other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from labloop.errors import ConfigError
from labloop.types import FloatArray

NUMBERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
"""Types of numbers that are read."""


def embeddings(path: Path) -> dict[str, dict[str, float]]:
    """Read a vector an option: by option and number, as descriptors are. A matrix, a row a position, gives its mean position.

    Raises:
        ConfigError: it is no such file, or vectors are of unequal length or not finite; with the option.
    """
    try:
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        header, numbers = json.loads(content[8 : 8 + size]), content[8 + size :]
        found = {name: _vector(one, numbers) for name, one in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path.name} is not a safetensors file of F64, F32 or F16 ({' '.join(str(error).split())})") from error
    width = max((len(one) for one in found.values()), default=0)
    for name, one in found.items():
        if len(one) != width or not np.isfinite(one).all():
            raise ConfigError(f"{path.name}: {name!r} has {len(one)} numbers of {width}, or one that is not finite")
    if not width:
        raise ConfigError(f"{path.name} holds no vector")
    places = len(str(width - 1))
    return {name: {f"e{j:0{places}d}": float(x) for j, x in enumerate(one)} for name, one in found.items()}


def _vector(told: dict[str, Any], numbers: bytes) -> FloatArray:
    values = np.frombuffer(numbers[slice(*told["data_offsets"])], dtype=NUMBERS[told["dtype"]]).astype(float)
    shape = told["shape"]
    return values.reshape(-1, shape[-1]).mean(0) if len(shape) > 1 else values.reshape(shape)
