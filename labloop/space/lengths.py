"""Sequences of unequal length as codes (n, longest): letters 0 to k - 1, then a gap k at each place beyond the end.

Gaps stand at the end only, so that each sequence has one encoding; how far two are apart, `distance` tells by the insertions,
deletions and substitutions between them, wherever they are.
"""

from __future__ import annotations

import numpy as np

from labloop.types import Array, FloatArray

WORD = 64
"""Letters that one machine word holds."""
PAIRS = 65_536
"""Pairs of sequences that are compared at once: few enough to stay in a processor's cache."""


def compact(cells: FloatArray, shortest: int) -> Array:
    """Read codes (n, longest) off scores of letters and gap (n, longest, k + 1).

    A gap wherever it scores best, but only the most certain ones where a sequence would be too short; then gaps move to the end.
    """
    codes, gap = cells.argmax(-1), cells.shape[-1] - 1
    empty = codes == gap
    if (empty.sum(1) > cells.shape[1] - shortest).any():
        margin = np.where(empty, cells[..., gap] - cells[..., :gap].max(-1), -np.inf)
        rank = np.argsort(np.argsort(-margin, axis=1, kind="stable"), axis=1)
        filled = empty & (rank >= cells.shape[1] - shortest)
        codes, empty = np.where(filled, cells[..., :gap].argmax(-1), codes), empty & ~filled
    return np.take_along_axis(codes, np.argsort(empty, axis=1, kind="stable"), axis=1)


def sample(n: int, shortest: int, longest: int, k: int, rng: np.random.Generator) -> Array:
    """Draw n sequences, (n, longest): each length is equally likely, then each letter."""
    length = rng.integers(shortest, longest + 1, size=n)
    return np.where(np.arange(longest) < length[:, None], rng.integers(k, size=(n, longest)), k)


def mutate(codes: Array, shortest: int, k: int, rng: np.random.Generator) -> Array:
    """Change each row by a substitution (half of the time), an insertion or a deletion, as far as its length allows."""
    n, longest = codes.shape
    length = (codes < k).sum(1)
    kind = rng.choice(3, size=n, p=(0.5, 0.25, 0.25))
    kind[(kind == 1) & (length == longest) | (kind == 2) & (length == shortest)] = 0
    place = (rng.random(n) * (length + (kind == 1))).astype(np.int64)
    letter, rows = rng.integers(k, size=n), np.arange(n)
    other = (codes[rows, np.minimum(place, longest - 1)] + rng.integers(1, k, size=n)) % k
    shifted = _shifted(codes, np.where(kind == 1, place, longest), np.where(kind == 2, place, longest), k)
    shifted[rows[kind < 2], place[kind < 2]] = np.where(kind == 1, letter, other)[kind < 2]
    return shifted


def neighbours(code: Array, shortest: int, k: int) -> Array:
    """List what one substitution, deletion or insertion makes of one sequence (longest,); (m, longest), some of them twice."""
    longest, length = len(code), int((code < k).sum())
    found = []
    changed = np.repeat(code[None], length * (k - 1), axis=0)
    place = np.repeat(np.arange(length), k - 1)
    rows = np.arange(len(changed))
    changed[rows, place] = (changed[rows, place] + np.tile(np.arange(1, k), length)) % k
    found.append(changed)
    if length > shortest:
        cut = np.arange(length)
        found.append(_shifted(np.repeat(code[None], length, axis=0), np.full(length, longest), cut, k))
    if length < longest:
        at = np.repeat(np.arange(length + 1), k)
        longer = _shifted(np.repeat(code[None], len(at), axis=0), at, np.full(len(at), longest), k)
        longer[np.arange(len(at)), at] = np.tile(np.arange(k), length + 1)
        found.append(longer)
    return np.concatenate(found)


def listing(shortest: int, longest: int, k: int) -> Array:
    """List all sequences, (N, longest), the shortest first."""
    found = []
    for length in range(shortest, longest + 1):
        codes = np.arange(k**length)[:, None] // k ** np.arange(length - 1, -1, -1) % k
        found.append(np.concatenate([codes, np.full((len(codes), longest - length), k)], axis=1))
    return np.concatenate(found)


def _shifted(codes: Array, opened: Array, closed: Array, k: int) -> Array:
    """Open a place in each row (n,), or close one: what stands behind moves on, or back."""
    at = np.arange(codes.shape[1])
    source = at - (at > opened[:, None]) + (at >= closed[:, None])
    return np.take_along_axis(np.concatenate([codes, np.full((len(codes), 1), k)], axis=1), source, axis=1)


def distance(A: Array, B: Array, k: int) -> FloatArray:
    """Count the substitutions, insertions and deletions (len(A), len(B)) that it takes at least from one to the other.

    Levenshtein's distance by bits, a column of the table a word (Myers, J ACM 46, 1999; Hyyrö, Nordic J Computing 10, 2003).
    """
    out = np.zeros((len(A), len(B)))
    if not out.size:
        return out
    step = max(1, PAIRS // len(B))
    lengths = (k > B).sum(1)
    for start in range(0, len(A), step):
        out[start : start + step] = _columns(A[start : start + step], B, lengths, k)
    return out


def _columns(A: Array, B: Array, lengths: Array, k: int) -> Array:
    one, high = np.uint64(1), np.uint64(WORD - 1)
    own = (k > A).sum(1)
    last_word, last_bit = (own - 1) // WORD, ((own - 1) % WORD).astype(np.uint64)
    words = int(last_word.max()) + 1
    shape = (len(A), len(B))
    up = [np.full(shape, ~np.uint64(0)) for _ in range(words)]
    down = [np.zeros(shape, dtype=np.uint64) for _ in range(words)]
    where = np.zeros((words, len(A), k + 1), dtype=np.uint64)  # at which places of a each letter stands
    for i in range(A.shape[1]):
        if i // WORD < words:
            where[i // WORD, np.arange(len(A)), A[:, i]] |= one << np.uint64(i % WORD)
    score = np.repeat(own[:, None], len(B), axis=1)
    for t in range(int(lengths.max())):
        plus, minus = np.ones(shape, dtype=np.uint64), np.zeros(shape, dtype=np.uint64)  # the row above the first grows by one
        for word in range(words):
            same = where[word][:, B[:, t]]
            vertical = same | down[word]
            same = same | minus
            level = (((same & up[word]) + up[word]) ^ up[word]) | same
            rises, falls = down[word] | ~(level | up[word]), up[word] & level
            here = (last_word == word)[:, None] & (t < lengths)
            bit = last_bit[:, None]
            score += np.where(here, ((rises >> bit) & one).astype(np.int64) - ((falls >> bit) & one).astype(np.int64), 0)
            carried = rises >> high, falls >> high
            rises, falls = (rises << one) | plus, (falls << one) | minus
            up[word], down[word] = falls | ~(vertical | rises), rises & vertical
            plus, minus = carried
    return score
