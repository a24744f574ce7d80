"""Embeddings of options, such as a protein language model's: a safetensors file with a vector an option, under its name.

The format is read here, without its library: the length of a header in JSON, the header, and the numbers one after the other.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np

from labloop.errors import ConfigError
from labloop.types import FloatArray

NUMBERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
"""Types of numbers that are read."""


def embeddings(content: bytes, name: str) -> dict[str, dict[str, float]]:
    """Read a vector an option: by option and number, as descriptors are.

    Raises:
        ConfigError: as `vectors`.
    """
    options, values = vectors(content, name)
    places = len(str(values.shape[1] - 1))
    return {
        option: {f"e{j:0{places}d}": float(x) for j, x in enumerate(row)} for option, row in zip(options, values, strict=True)
    }


def vectors(content: bytes, name: str) -> tuple[list[str], FloatArray]:
    """Read a vector an option or design: their names and (n, width). A matrix, a row a position, gives its mean position.

    Raises:
        ConfigError: it is no such file, or vectors are of unequal length or not finite; with the option.
    """
    try:
        size = int.from_bytes(content[:8], "little")
        header, numbers = json.loads(content[8 : 8 + size], object_pairs_hook=_once), memoryview(content)[8 + size :]
        told = {option: one for option, one in header.items() if option != "__metadata__"}
        _apart([one["data_offsets"] for one in told.values()])
        found = {option: _vector(one, numbers) for option, one in told.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{name} is not a safetensors file of F64, F32 or F16 ({' '.join(str(error).split())})") from error
    width = max((len(one) for one in found.values()), default=0)
    for option, one in found.items():
        if len(one) != width or not np.isfinite(one).all():
            raise ConfigError(f"{name}: {option!r} has {len(one)} numbers of {width}, or one that is not finite")
    if not width:
        raise ConfigError(f"{name} holds no vector")
    return list(found), np.stack(list(found.values()))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r} stands there twice")
    return found


def _apart(offsets: list[list[int]]) -> None:
    """See that no numbers are two options': a small file could stand for more than any memory holds."""
    end = 0
    for first, last in sorted((first, last) for first, last in offsets):
        if not end <= first <= last:
            raise ValueError(f"data_offsets {first} to {last} are of several vectors, or of none")
        end = last


def _vector(told: dict[str, Any], numbers: memoryview) -> FloatArray:
    values = np.frombuffer(numbers[slice(*told["data_offsets"])], dtype=NUMBERS[told["dtype"]]).astype(float)
    shape = told["shape"]
    if not shape or min(shape) < 1:
        raise ValueError(f"shape {shape} is of no vector")
    return values.reshape(-1, shape[-1]).mean(0) if len(shape) > 1 else values.reshape(shape)
