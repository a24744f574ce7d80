"""Parse cells: numbers with their decimal mark, bounds, units, wells, dates and statuses.

Every function takes the distinct texts of a column and gives an array as long, with a rule beside it where a text breaks one
(the empty string where it does not).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pandas as pd

from labloop.assays.ingest.cells import Mark, Table
from labloop.plates.statuses import STATUSES
from labloop.plates.wells import parse_well, well_name
from labloop.types import Array, FloatArray

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_DIGITS = frozenset("0123456789+-.eE")
_HUGE = "is too large to be a number"
_SPACED = re.compile(r"[+-]?[0-9]{1,3}(?:[ \u00a0\u202f'’][0-9]{3})+(?![0-9])")
_BOUND = re.compile(r"(<=|>=|=<|=>|<|>|≤|≥|⩽|⩾|≦|≧)\s*(.*)", re.DOTALL)
_LOWER = frozenset({"<", "<=", "=<", "≤", "⩽", "≦"})
_LIMITS = {"lod": "low", "lloq": "low", "llod": "low", "loq": "low", "min": "low", "uloq": "high", "ulod": "high", "max": "high"}
_BEYOND = {
    **dict.fromkeys(("ovrflw", "overflow", "ovfl", "over", "sat", "saturated", "#sat"), (">", "high")),
    **dict.fromkeys(("under", "underflow", "undrflw", "blq", "bloq", "bql", "blod"), ("<", "low")),
}
_UNREAD = frozenset({"missed", "*****", "****", "***"})
"""What readers write for a well that they did not read."""
_NOTHING = frozenset(
    {"nan", "na", "n/a", "n.a.", "n.a", "nd", "n.d.", "n.d", "n/d", "null", "none", "-", "--", "---", "–", "—", "."}
)


# ---- numbers


@dataclass(frozen=True)
class Marks:
    """What a point and a comma mean in a file's numbers."""

    decimal: Mark | None
    """None: the file does not tell, so `1,234` and `1.234` cannot be read."""
    grouped: bool
    """Whether the other mark is seen to group thousands."""

    @property
    def describe(self) -> str:
        name = {".": "decimal point", ",": "decimal comma", None: "whole numbers"}[self.decimal]
        return name + (", thousands grouped" if self.grouped else "")


def _shapes(mark: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Patterns of a number whose `mark` can only be the decimal one, and of one that shows the other mark grouping."""
    d, g = re.escape(mark), re.escape("," if mark == "." else ".")
    sign, exponent = r"[+-]?", r"[eE][+-]?[0-9]+"
    # One to three digits, the mark and three digits could be thousands; a leading zero, another count or an exponent could not.
    lone = rf"(?:0[0-9]*{d}[0-9]+|[0-9]+{d}(?:[0-9]{{0,2}}|[0-9]{{4,}})|[0-9]{{4,}}{d}[0-9]+|{d}[0-9]+)"
    both = rf"[0-9]{{1,3}}(?:{g}[0-9]{{3}})+{d}[0-9]*"
    many = rf"[0-9]{{1,3}}(?:{g}[0-9]{{3}}){{2,}}"
    certain = rf"{sign}(?:{lone}(?:{exponent})?|[0-9]*{d}[0-9]*{exponent}|{both}|{many})"
    return re.compile(certain), re.compile(rf"{sign}(?:{both}|{many})")


_POINT, _POINT_GROUPED = _shapes(".")
_COMMA, _COMMA_GROUPED = _shapes(",")
_UNSURE = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")


def find_marks(table: Table, columns: Iterable[str]) -> Marks:
    """Find out what point and comma mean in a table's numeric columns; cells that can only be read one way decide.

    What is a number in a spreadsheet says nothing of what was typed there as text.
    """
    columns = list(columns)
    marks = _marks([text for name in columns for text in table.columns[name].texts.tolist()], unsure=table.delimiter != ",")
    typed = [text for name in columns for text in table.typed.get(name, ())]
    alone = _marks(typed, unsure=True)
    return alone if alone.decimal is None else marks


def _marks(texts: Sequence[str], *, unsure: bool) -> Marks:
    points = [text for text in texts if "." in text or text.count(",") > 1]
    commas = [text for text in texts if "," in text or text.count(".") > 1]
    point, comma = int(_shows(points, _POINT)), int(_shows(commas, _COMMA))
    if point and comma:
        # Somebody typed into the file: the few that differ become faults.
        point = sum(map(bool, map(_POINT.fullmatch, map(_bare, points))))
        comma = sum(map(bool, map(_COMMA.fullmatch, map(_bare, commas))))
    if comma > point:
        return Marks(",", _shows(commas, _COMMA_GROUPED))
    if point:
        return Marks(".", "," in "".join(points) and _shows(points, _POINT_GROUPED))
    return Marks(None if unsure and _shows((*points, *commas), _UNSURE) else ".", False)


def shown_mark(text: str) -> Mark | None:
    """Tell the decimal mark that the numbers in free text show, such as a temperature above a plate; None where they disagree."""
    found = _LOOSE.findall(text)
    point, comma = _shows(found, _POINT), _shows(found, _COMMA)
    return None if point == comma else "." if point else ","


_LOOSE = re.compile(r"(?<![\w.,:/-])[0-9]+[.,][0-9]+(?![\w.,:/-])")


def is_reading(text: str) -> bool:
    """Whether a cell looks like something that an instrument measured: a number, a bound, or a reader's word for a well."""
    return text.casefold() in _BEYOND or text.casefold() in _UNREAD or _NUMBERLIKE.fullmatch(_bare(text)) is not None


def is_marked(text: str) -> bool:
    """Whether a cell looks like a number with a point or a comma."""
    return ("." in text or "," in text) and _NUMBERLIKE.fullmatch(_bare(text)) is not None


_NUMBERLIKE = re.compile(r"[+-]?[.,]?[0-9][0-9.,]*(?:[eE][+-]?[0-9]+)?")


def _shows(texts: Iterable[str], shape: re.Pattern[str]) -> bool:
    return any(map(shape.fullmatch, map(_bare, texts)))


def _bare(text: str) -> str:
    """The number in a cell without its bound and percent sign."""
    if bound := _BOUND.fullmatch(text):
        text = bound[2]
    return _joined(text.removesuffix("%").rstrip())


def _joined(text: str) -> str:
    """The number with a plain minus sign and without the blanks or apostrophes that group its thousands."""
    text = text.replace("−", "-")
    spaced = _SPACED.match(text)
    return text if spaced is None else re.sub(r"[^0-9+-]", "", spaced[0]) + text[spaced.end() :]


def numbers(texts: Array, marks: Marks) -> tuple[FloatArray, Array]:
    """Read plain numbers; returns values (k,), NaN where a rule is broken, and the rules (k,)."""
    values, rules = np.full(len(texts), np.nan), np.full(len(texts), "", dtype=object)
    if marks.decimal == "." and _DIGITS.issuperset("".join(texts)):
        try:
            values = texts.astype(float)
        except ValueError:  # such as a lone sign; each text is looked at below
            pass
        else:
            return np.where(np.isinf(values), np.nan, values), np.where(np.isinf(values), _HUGE, rules)
    series = pd.Series(texts, dtype=object)
    if marks.decimal == ",":
        series = series.where(series.str.contains(".", regex=False), series.str.replace(",", ".", regex=False))
    # The good path: a point is the decimal mark beyond doubt, or the number is whole.
    plain = series.str.fullmatch(_NUMBER).to_numpy(dtype=bool)
    if marks.decimal != ".":
        plain = plain & ~pd.Series(texts, dtype=object).str.contains(".", regex=False).to_numpy(dtype=bool)
    if marks.decimal is None:
        plain = plain & ~series.str.contains(",", regex=False).to_numpy(dtype=bool)
    values[plain] = series[plain].astype(float)
    for i in np.flatnonzero(~plain).tolist():
        values[i], rules[i] = _number(texts[i], marks)
    huge = np.isinf(values)
    values[huge], rules[huge] = np.nan, _HUGE
    return values, rules


def _number(text: str, marks: Marks) -> tuple[float, str]:
    """Read one number that is not plain, or say what is wrong with it."""
    text = _joined(text)
    if marks.decimal is None and _UNSURE.fullmatch(text):
        either = f"{text.replace(',', '.')} or {re.sub('[.,]', '', text)}"
        how = "write it without thousands, name the mark (assays.NAME.decimal), or save the file with commas between the columns"
        return math.nan, f"can be {either}: {how}"
    decimal: Mark = marks.decimal or "."
    group = "," if decimal == "." else "."
    grouped = _POINT_GROUPED if decimal == "." else _COMMA_GROUPED
    if grouped.fullmatch(text) or (marks.grouped and _UNSURE.fullmatch(text) and group in text):
        text = text.replace(group, "")
    elif group in text and (_COMMA if group == "," else _POINT).fullmatch(text):
        return math.nan, f"has a decimal {_named(group)} in a file of decimal {_named(decimal)}s"
    elif group in text and _UNSURE.fullmatch(text):
        return math.nan, f"can be a decimal or a thousands {_named(group)}: write it without"
    text = text.replace(decimal, ".") if group not in text else text
    if _NUMBER.fullmatch(text):
        return float(text), ""
    return math.nan, _why_not(text)


def _named(mark: str) -> str:
    return "comma" if mark == "," else "point"


def _why_not(text: str) -> str:
    lowered = text.casefold()
    if lowered.startswith("#"):
        return "is a spreadsheet's error: mend the formula, or leave the cell empty and give a status"
    if lowered in _NOTHING:
        return "is no number: leave the cell empty and say in status what became of the well"
    if re.fullmatch(r"[+-]?(inf|infinity|∞)", lowered):
        return "is infinite: write a bound such as >100, or give a status"
    if re.fullmatch(r"[0-9]{1,4}[-/.][0-9a-z]{1,9}([-/.][0-9]{1,4})?", lowered):
        return "looks like a date: the spreadsheet changed the number, export it again as text"
    if unit := re.fullmatch(r"[+-]?[0-9.,]+\s*([^\W\d].{0,12})", text):
        return f"is no plain number: put the unit {unit[1]!r} into a column unit"
    return "is not a number"


# ---- values


@dataclass(frozen=True, eq=False)
class Readings:
    """The distinct texts of a value column, understood; all arrays (k,)."""

    number: FloatArray
    """NaN where there is none."""
    qualifier: Array
    """`=`, `<` or `>`."""
    limit: Array
    """`low` or `high` where the text names the assay's limit instead of a number, else ''."""
    percent: Array
    unread: Array
    """The reader's own word for a well that it did not read, or an empty cell."""
    nothing: Array
    """Texts that stand for no measurement: a fault, unless a status says what became of the well."""
    rule: Array


def readings(texts: Array, marks: Marks) -> Readings:
    """Understand the distinct texts of a value column."""
    bare = texts.copy()
    qualifier, limit = np.full(len(texts), "=", dtype=object), np.full(len(texts), "", dtype=object)
    percent, unread, nothing = (np.zeros(len(texts), dtype=bool) for _ in range(3))
    for i in [i for i, text in enumerate(texts.tolist()) if text[:1] not in _STARTS or text[-1] == "%" or text in _NOTHING]:
        word, text = texts[i].casefold(), texts[i]
        if bound := _BOUND.fullmatch(text):
            qualifier[i] = "<" if bound[1] in _LOWER else ">"
            limit[i] = _LIMITS.get(bound[2].casefold(), "")
            text = bound[2]
        elif word in _BEYOND:
            qualifier[i], limit[i] = _BEYOND[word]
        unread[i] = not word or word in _UNREAD
        nothing[i] = word in _NOTHING or (word.startswith("#") and word not in _BEYOND)
        if text.endswith("%"):
            percent[i], text = True, text[:-1].rstrip()
        bare[i] = "0" if limit[i] or unread[i] else text
    number, rule = numbers(bare, marks)
    number[(limit != "") | unread] = np.nan
    return Readings(number, qualifier, limit, percent, unread, nothing, rule)


_STARTS = frozenset("0123456789+-.,")


# ---- the other columns


def unit_key(text: str) -> str:
    """Fold the two micro signs and other compatibility letters, so that equal units compare equal."""
    return unicodedata.normalize("NFKC", text)


def factors(texts: Array, accepted: Mapping[str, float], where: str) -> tuple[FloatArray, Array]:
    """Give each unit's factor to the objective's unit, and a rule where the unit is unknown."""
    table = {unit_key(unit): factor for unit, factor in accepted.items()}
    factor = np.array([table.get(unit_key(text), np.nan) for text in texts.tolist()], dtype=float)
    allowed = ", ".join(unit or "none" for unit in accepted) or "none"
    rule = f"is not a unit of this assay ({allowed}): add it under {where} with its factor"
    return factor, np.where(np.isnan(factor), rule, "").astype(object)


def well_names(texts: Array) -> tuple[Array, Array]:
    """Write wells as labloop does (`a1` and `A01` are `A01`); a rule where a text is no well of any plate."""
    codes, distinct = pd.factorize(texts)
    names, rules = distinct.copy(), np.full(len(distinct), "", dtype=object)
    for i, text in enumerate(distinct.tolist()):
        if not text:
            continue
        try:
            names[i] = well_name(*parse_well(text))
        except ValueError:
            rules[i] = "is no well, such as A1 or H12"
    return names[codes], rules[codes]


def instants(texts: Array) -> tuple[Array, Array]:
    """Check dates and times; returns them in ISO 8601, NaN where a cell is empty, and the rules."""
    out, rules = np.full(len(texts), np.nan, dtype=object), np.full(len(texts), "", dtype=object)
    for i, text in enumerate(texts.tolist()):
        if not text:
            continue
        try:
            out[i] = date.fromisoformat(text).isoformat()
        except ValueError:
            try:
                out[i] = datetime.fromisoformat(text).isoformat()
            except ValueError:
                rules[i] = "is no date as ISO 8601 writes it, such as 2026-03-31 or 2026-03-31T14:05"
                continue
        if not 1900 < int(out[i][:4]) < 2100:
            rules[i] = "is no year in which a well was measured: mend it"
    return out, rules


def statuses(texts: Array) -> tuple[Array, Array]:
    """Read statuses, '' where a cell is empty; a rule where a text is none."""
    out = np.array([re.sub(r"[\s-]+", "_", text.casefold()) for text in texts.tolist()], dtype=object)
    known = np.isin(out.astype(str), ["", *STATUSES])
    return out, np.where(known, "", f"is no status: it takes {', '.join(STATUSES)}, or nothing").astype(object)
