"""Make this folder's files again: `python examples/data/assays/make` (or elsewhere: a folder as argument).

Every file has the shape of what a real program or a person sends, and is named for its trouble. The values are made up, so they
are known: `expected.json` is written from them, never from what labloop reads.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import books
import grids
import long
from truth import PLATES, Told

HERE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
README = """# Assay files as labs send them

Made up after the real shapes, each named for its trouble. `expected.json` says how each is read and what comes of it,
`layout.csv` what was laid out, `campaigns/` for which campaigns. `tests/test_readers.py` reads them all;
`python examples/data/assays/make` makes them again, and `make fuzz` spoils them in 10,000 ways.

| file | its trouble | reader |
|---|---|---|
{files}

## Refused

| file | its trouble | labloop says |
|---|---|---|
{refused}
"""


def main() -> None:
    files = {**long.files(), **grids.files(), **books.files()}
    refused = {**long.refused(), **grids.refused(), **books.refused()}
    for folder, made in ((HERE, files), (HERE / "refused", refused)):
        folder.mkdir(exist_ok=True)
        for name, (content, _) in made.items():
            (folder / name).write_bytes(content)
        (folder / "expected.json").write_bytes(_index({name: told for name, (_, told) in made.items()}).encode())
    layout = [f"{campaign},{plate},{well},{dna},{control}" for (campaign, plate), held in PLATES.items()
              for well, (dna, control) in held.items()]  # fmt: skip
    (HERE / "layout.csv").write_bytes("\n".join(["campaign,plate,well,dna,control", *layout, ""]).encode())
    tables = {
        "files": "\n".join(f"| `{name}` | {told.trouble} | {told.reader} |" for name, (_, told) in files.items()),
        "refused": "\n".join(
            f"| `{name}` | {told.trouble} | {told.message.replace('|', ' ')} |" for name, (_, told) in refused.items()
        ),
    }
    (HERE / "README.md").write_bytes(README.format(**tables).encode())


def _index(told: Mapping[str, Told]) -> str:
    """Write the index with one line a well, so that a change shows as one."""
    entries = []
    for name, one in told.items():
        plain = {key: value for key, value in asdict(one).items() if value and key not in ("trouble", "rows")}
        head = json.dumps(plain, ensure_ascii=False)[:-1]
        rows = ",\n".join(f"    {json.dumps(row)}" for row in one.rows or [])
        entries.append(f"{json.dumps(name)}: {head}" + (f', "rows": [\n{rows}\n]}}' if rows else "}"))
    return "{\n" + ",\n".join(entries) + "\n}\n"


if __name__ == "__main__":
    main()
