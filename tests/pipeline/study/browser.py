"""The system's Chromium, driven by real mouse, touch and key events over its own DevTools protocol (`--remote-debugging-pipe`: no port, no package).

Documented at https://chromedevtools.github.io/devtools-protocol/: JSON messages that end in a zero byte, on the file descriptors 3 and 4.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
SWITCHES = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe")
START = (  # Chromium listens at descriptor 3 and answers at 4
    "import fcntl, os, sys; there = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]; "
    "os.dup2(there[0], 3); os.dup2(there[1], 4); os.execv(sys.argv[3], sys.argv[3:])"
)
PATIENCE = 60  # seconds, on a machine that has other things to do
KEYS = {"Tab": 9, "Enter": 13, "Backspace": 8, " ": 32}


class Browser:
    """A Chromium with one page, whose profile and downloads lie in `folder`; open a second one on the same folder and it remembers."""

    def __init__(self, folder: Path) -> None:
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True, exist_ok=True)
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        command = [sys.executable, "-c", START, str(theirs_in), str(theirs_out), CHROMIUM, *SWITCHES, f"--user-data-dir={folder / 'profile'}"]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), start_new_session=True, stdout=log, stderr=log)
        os.close(theirs_in)
        os.close(theirs_out)
        self._ids, self._read, self._session = itertools.count(1), b"", None
        self.asked: list[str] = []  # URLs that the page has asked for
        self.complaints: list[str] = []  # what its console says is wrong
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """End the browser, which writes down what its pages have kept; only one that does not end is killed."""
        self._session = None
        with contextlib.suppress(OSError, TimeoutError):  # it may end before it answers
            self.send("Browser.close")
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(self, path: Path, *, width: int, height: int = 800, touch: bool = False) -> None:
        """Show a file on a screen of this size, or that of a phone."""
        self.open_url(path.resolve().as_uri(), width=width, height=height, touch=touch)

    def open_url(self, url: str, *, width: int, height: int = 800, touch: bool = False) -> None:
        """Show a page on a screen of this size, or that of a phone."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if touch else 1, mobile=touch)
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.send("Page.navigate", url=url)
        self.wait(lambda: self.run("document.readyState") == "complete")

    def reload(self) -> None:
        """Load the page again."""
        self.run("window.isOld = true")
        self.send("Page.reload")
        self.wait(lambda: self.run("document.readyState === 'complete' && !window.isOld"))

    def run(self, script: str) -> Any:
        """Return what an expression in the page gives."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def tap(self, selector: str, *, touch: bool = False) -> None:
        """Tap or click the middle of what a selector finds, after scrolling there; it must be what lies on top."""
        place = self.run(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)}); found.scrollIntoView({{block: 'center'}}); "
            "const box = found.getBoundingClientRect(); const [x, y] = [box.x + box.width / 2, box.y + box.height / 2]; "
            "return [x, y, found.contains(document.elementFromPoint(x, y))]; })()"
        )
        assert place[2], f"{selector} is covered or outside of the screen"
        point = {"x": place[0], "y": place[1]}
        if touch:
            self.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
            self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        else:
            for kind in ("mousePressed", "mouseReleased"):
                self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **point)

    def press(self, key: str) -> None:
        """Press a key."""
        code = KEYS[key] if key in KEYS else ord(key.upper()) if key.isalnum() else 0  # of other characters the code is another key's
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", key=key, windowsVirtualKeyCode=code, text=text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def write(self, text: str) -> None:
        """Type a text, key by key."""
        for letter in text:
            self.press(letter)

    def photograph(self, path: Path) -> None:
        """Save a picture of the whole page."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def wait(self, is_done: Callable[[], object]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not is_done():
            assert time.monotonic() < deadline, "it has not come to that"
            time.sleep(0.02)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            if not select.select([self._in], [], [], PATIENCE)[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._in, 1 << 16)
            if not part:
                raise BrokenPipeError("the browser has ended")
            self._read += part
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"].get("text", "an exception"))
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif event.get("method") == "Page.javascriptDialogOpening":
            self.complaints.append(params["message"])
