"""Make docs/images/report.png: the head of a report after two plates of TF Bind 8, as Chromium shows it.

python examples/picture.py docs/images/report.png
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from labloop import RoundConfig
from labloop.studies.demo import rehearse

ROUND = RoundConfig.model_validate(
    {
        "arms": {
            "model": {"proposers": ["gp_mean"], "selector": {"conservative": {"beta": {"first": -1.0, "last": 0.0}}}},
            "letters": {"proposers": ["pairwise"]},
            "free": {"proposers": ["random"]},
        },
        "judge": "gp",
    }
)


def main(picture: Path, size: str = "1200,1500") -> None:
    """Run the campaign in a folder that goes away, and keep the picture."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("needs Chromium")
    picture.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        rehearse(folder, round_config=ROUND, start=300, rounds=2)
        window = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={size}",
            "--virtual-time-budget=20000",
        ]
        page = (Path(folder) / "report.html").absolute().as_uri()
        subprocess.run([chromium, *window, f"--screenshot={picture.absolute()}", page], check=True, capture_output=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/report.png"))
