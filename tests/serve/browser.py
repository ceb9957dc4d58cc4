"""A headless browser, by chromedriver's own HTTP interface; no library is needed for that."""

import base64
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window."""

    def __init__(self, driver: str, session: dict[str, Any]):
        self._http = httpx.Client(base_url=driver, timeout=600)
        answer = self._http.post("/session", json=session).json()["value"]
        assert "sessionId" in answer, answer
        self._path = f"/session/{answer['sessionId']}"

    def close(self) -> None:
        self._http.delete(self._path)
        self._http.close()

    def open(self, url: str) -> None:
        self._post("/url", url=url)

    def run(self, script: str) -> Any:
        """What a script returns; one that returns a promise is waited for."""
        return self._post("/execute/sync", script=script, args=[])

    def type(self, selector: str, text: str) -> None:
        self._post(f"/element/{self._find(selector)}/value", text=text)

    def click(self, selector: str) -> None:
        self._post(f"/element/{self._find(selector)}/click")

    def size(self, width: int, height: int) -> None:
        """The size of the page, which a window's own may not be as small as."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._chrome("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark"}
        self._chrome("Emulation.setEmulatedMedia", {"features": [feature]})

    def complaints(self) -> list[str]:
        """What the console has said since it was last asked."""
        return [entry["message"] for entry in self._post("/se/log", type="browser")]

    def picture(self, path: Path) -> None:
        path.write_bytes(
            base64.b64decode(self._http.get(f"{self._path}/screenshot").json()["value"])
        )

    def _find(self, selector: str) -> str:
        return self._post("/element", using="css selector", value=selector)[_ELEMENT]

    def _chrome(self, command: str, params: dict[str, Any]) -> None:
        self._post("/goog/cdp/execute", cmd=command, params=params)

    def _post(self, path: str, **body: Any) -> Any:
        answer = self._http.post(self._path + path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@contextmanager
def browser() -> Iterator[Browser]:
    """A new one; the test is skipped without chromium and chromedriver."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    with tempfile.TemporaryDirectory() as profile, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ
        )
        assert process.stdout is not None
        try:
            started = (re.search(r"successfully on port (\d+)", line) for line in process.stdout)
            port = next(match[1] for match in started if match)
            flags = [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
            ]
            options = {"binary": chromium, "args": flags}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            window = Browser(f"http://127.0.0.1:{port}", {"capabilities": {"alwaysMatch": wanted}})
            try:
                yield window
            finally:
                window.close()
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()
