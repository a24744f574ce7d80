"""What can become of a well, and the words for it in the lab's form."""

from __future__ import annotations

STATUSES = ("ok", "failed_technical", "failed_design", "censored_low", "censored_high", "excluded")
"""What can become of a well. Only `ok` and the censored ones are learned from; a failure is never a number."""

BOUNDS = {"censored_low": -1, "censored_high": 1}
"""Statuses of readings beyond the assay's range, and on which side of the value, in the lab's unit, the truth is."""

GONE = ("failed_technical", "failed_design", "excluded")
"""Statuses that need no value."""

FORM_HELP = f"status is one of: {' | '.join(STATUSES)}; a row without value, status, date and note is not measured yet"
"""The header of an empty column beside the form, which tells whoever fills it in what can be written."""
