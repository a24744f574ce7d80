"""A real browser for pages that write themselves: Chromium without a window, told what to do over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scheduling import PATIENCE

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def _playwrights() -> Iterator[str]:
    """Those that Playwright has installed, newest first."""
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    yield from map(str, sorted(cache.glob("chromium-*/chrome-linux*/chrome"), reverse=True))


CHROMIUM = next(filter(None, (*map(shutil.which, _NAMES), *_playwrights())), None)
"""Where the browser is; None where there is none."""


class Page:
    """A tab of the browser."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._asked = 0

    def open(self, url: str) -> None:
        """Go to a page; what stands on it may take a while to come."""
        self.value("window.labloopLeft = true")  # which the page that comes does not have
        self._ask("Page.navigate", url=url)
        here = f"location.href.startsWith({json.dumps(url)}) && !window.labloopLeft"
        self._until(f"{here} && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Give the value of a JavaScript expression."""
        return self._ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def now(self, expression: str) -> Any:
        """Give a value of the page that stands there; one that looks again at this moment is waited for."""
        return self._until(f"document.documentElement && document.readyState === 'complete' && [{expression}]")[0]

    def text(self, *wanted: str) -> str:
        """Give the text that a reader sees, once all that is wanted stands there.

        Raises:
            AssertionError: it does not come; the message has the text that there is.
        """
        return str(self._until("document.body.innerText", wanted))

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Keep what the window shows, or the `whole` page, as a PNG file."""
        shot = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        path.write_bytes(base64.b64decode(shot["data"]))

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self._ask("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def size(self, width: int, height: int = 1000) -> None:
        """Give the window a size."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def type(self, selector: str, text: str) -> None:
        """Write into a field."""
        self._ask("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)}).focus()")
        self._ask("Input.insertText", text=text)

    def key(self, name: str) -> None:
        """Press a key of the keyboard, such as `ArrowRight`."""
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in a field for files."""
        field = self._ask("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")["result"]
        self._ask("DOM.setFileInputFiles", files=[str(path)], objectId=field["objectId"])

    def press(self, button: str) -> None:
        """Press the first button, or follow the first link, with these words; the page that comes may take a while.

        Raises:
            AssertionError: there is none.
        """
        find = f"[...document.querySelectorAll('button, a')].find(one => one.innerText.trim() === {json.dumps(button)})"
        assert self.value(f"!!{find}"), f"no {button!r} on {self.value('location.href')}: {self.value('document.body.innerText')}"
        self.value(f"window.labloopLeft = true, {find}.click()")
        self._until("!window.labloopLeft && document.readyState === 'complete'")

    def _until(self, expression: str, wanted: tuple[str, ...] = ()) -> Any:
        end = time.monotonic() + PATIENCE
        while not (found := self._read(expression)) or any(one not in str(found) for one in wanted):
            missing = [one for one in wanted if one not in str(found)]
            assert time.monotonic() < end, f"{missing or expression} does not come at {self.value('location.href')}: {found}"
            time.sleep(0.2)
        return found

    def _read(self, expression: str) -> Any:
        """Give a value; None where the page looks again by itself at this moment."""
        try:
            return self.value(expression)
        except AssertionError as error:
            if "navigated" not in str(error):
                raise
            return None

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(timeout=PATIENCE))).get("id") != self._asked:
            continue
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Start Chromium with a profile of its own in a folder, and give its tab; it ends with the block."""
    from websockets.sync.client import connect

    told = folder / "DevToolsActivePort"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1200"]
    child = subprocess.Popen(
        [*command, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE
        while not (told.exists() and told.read_text().count("\n")):
            assert time.monotonic() < end, "Chromium does not start"
            assert child.poll() is None, f"Chromium ended with {child.returncode}"
            time.sleep(0.2)
        with urllib.request.urlopen(f"http://127.0.0.1:{told.read_text().splitlines()[0]}/json/list", timeout=PATIENCE) as answer:
            (tab,) = [one for one in json.load(answer) if one["type"] == "page"]
        with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Page(socket)
    finally:
        child.terminate()
        child.wait(PATIENCE)
