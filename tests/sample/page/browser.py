"""A headless Chromium that is driven through a pipe, by the protocol of its developer tools.

No package is needed for it: only the browser, which Debian calls chromium.
"""

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60  # seconds for an answer of the browser
ERRORS = ("error", "warning")


class Browser:
    """One tab of a browser.

    Args:
      folder: an empty folder for the browser's own files.

    Attributes:
      faults: what the console complained of, and exceptions of scripts.
      asked: the addresses that the page asked for, without the page itself.
    """

    def __init__(self, folder: Path):
        program = next(filter(None, map(shutil.which, NAMES)), None)
        assert program, "no Chromium is installed (on Debian, as root: apt-get install chromium)"
        self.faults: list[str] = []
        self.asked: list[str] = []
        self._number, self._rest, self._session = 0, b"", {}
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        command = [
            program,
            "--headless=new",
            "--no-sandbox",  # tests may run as root
            "--disable-gpu",
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            f"--user-data-dir={folder}",
            "--remote-debugging-pipe",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", 'exec "$@" 3<&0 4>&1 >/dev/null', "bash", *command],
            stdin=theirs_in,
            stdout=theirs_out,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        pages = self.call("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in pages if each["type"] == "page")
        found = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = {"sessionId": found["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its result."""
        self._number += 1
        number = self._number
        sent = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(sent).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._take(message)

    def open(self, path: Path, width: int, dark: bool = False) -> None:
        """Opens a file at a width, with a wiped list of faults and addresses."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.faults, self.asked = [], []
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.until("document.readyState === 'complete'")
        self.asked.remove(path.absolute().as_uri())

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Waits for an expression to be true."""
        end = time.monotonic() + PATIENCE
        while not self.run(script):
            assert time.monotonic() < end, f"still not true: {script}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Clicks into the middle of an element, as a mouse does."""
        self._mouse("mousePressed", *self._middle(selector))
        self._mouse("mouseReleased", *self._middle(selector))

    def drag(self, selector: str, begin: float, end: float) -> None:
        """Drags along an element, from one share of its width to another one."""
        left, top, width, height = self._box(selector)
        y = top + height / 2
        self._mouse("mousePressed", left + begin * width, y)
        for part in (0.3, 0.6, 1.0):
            self._mouse("mouseMoved", left + (begin + part * (end - begin)) * width, y)
        self._mouse("mouseReleased", left + end * width, y)

    def hover(self, selector: str) -> None:
        self._mouse("mouseMoved", *self._middle(selector), pressed=False)

    def press(self, key: str) -> None:
        """Presses a key, by the name that pages know it by."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def _box(self, selector: str) -> list[float]:
        """Left, top, width and height of an element, which is scrolled to."""
        name = json.dumps(selector)
        return self.run(
            f"(() => {{ const el = document.querySelector({name});"
            "el.scrollIntoView({block: 'center'}); const b = el.getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]; })()"
        )

    def _middle(self, selector: str) -> tuple[float, float]:
        left, top, width, height = self._box(selector)
        return left + width / 2, top + height / 2

    def _mouse(self, kind: str, x: float, y: float, pressed: bool = True) -> None:
        button = {"button": "left", "buttons": 1, "clickCount": 1} if pressed else {}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            data = os.read(self._read, 2**20) if ready else b""
            assert data, "the browser does not answer"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def _take(self, message: dict[str, Any]) -> None:
        """Keeps what an event says of faults and of the network."""
        kind, said = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.faults.append(json.dumps(said["exceptionDetails"]))
        elif kind == "Runtime.consoleAPICalled" and said["type"] in ERRORS:
            self.faults.append(json.dumps(said["args"]))
        elif kind == "Log.entryAdded" and said["entry"]["level"] in ERRORS:
            self.faults.append(json.dumps(said["entry"]))
        elif kind == "Network.requestWillBeSent":
            self.asked.append(said["request"]["url"])
