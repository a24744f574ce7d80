"""What a campaign's file says of other campaigns and assays that may know something of the same designs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from labloop.config.base import NAME, Config


class Related(Config):
    """Another campaign, or a file of an old assay, over designs of the same space."""

    campaign: Annotated[str, Field(pattern=NAME)] | None = None
    """A campaign of the same ledger, or of the ledger in `home`."""
    home: Path | None = None
    """The folder of another ledger."""
    file: Path | None = None
    """A table, one row a measurement: `.csv`, `.xlsx`, `.tsv`; paths start at the campaign's file."""
    value: str = ""
    """The file's column of values; `value` or the property's name where left out."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The file's names of the design's columns, where they differ."""
    direction: Literal["max", "min"] | None = None
    """Which way is better in the file; the campaign's own where left out. Only a cold start depends on it."""
    of: str = ""
    """Which of this campaign's properties it speaks of; the leading one where left out."""

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.campaign if self.campaign is not None else self.file.name if self.file is not None else ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.campaign is None) == (self.file is None):
            raise ValueError("name either a campaign or a file, such as {campaign: first_screen} or {file: old_assay.csv}")
        if self.file is None and (self.value or self.columns or self.direction):
            raise ValueError("value, columns and direction are of files: a campaign has its own")
        if self.file is not None and self.home is not None:
            raise ValueError("home is the folder of a campaign's ledger: a file needs none")
        return self

    def anchored(self, folder: Path) -> Self:
        """Read relative paths from `folder` from now on."""
        paths = {name: folder.absolute() / one for name in ("home", "file") if (one := getattr(self, name)) is not None}
        return self.model_copy(update=paths)


def _several(raw: Any) -> Any:
    if names := [one for one in (raw if isinstance(raw, list | tuple) else [raw]) if isinstance(one, str)]:
        raise ValueError(f"{names[0]!r} may be a file or a campaign: write {{file: {names[0]}}} or {{campaign: {names[0]}}}")
    return [raw] if isinstance(raw, dict | Related) else raw


History = Annotated[tuple[Related, ...], BeforeValidator(_several), Field(max_length=16)]
"""Related campaigns and files; one or a list."""
