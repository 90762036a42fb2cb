"""A headless Chromium, driven by its own driver over HTTP (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.processes import PATIENCE_SECONDS, Program

__all__ = ["Browser", "axe_source"]

AXE_VERSION = "4.14.1"
# Not by way of a proxy that this machine may have.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Browser:
    """One window; ``dark`` and ``width`` are as of its user.

    ``insecure``: any certificate will do, of which a person would have to be convinced.
    """

    def __init__(self, *, dark: bool = False, width: int = 1280, insecure: bool = False) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or driver is None:
            raise FileNotFoundError("chromium and chromedriver (Debian: chromium-driver)")
        self._home = tempfile.TemporaryDirectory()
        environment = {"HOME": self._home.name, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        self._driver = Program(
            [driver, "--port=0"],
            directory=Path(self._home.name),
            environment=environment,
            merged=True,
        )
        port = self._driver.expect(r"started successfully on port (\d+)")[1]
        self._url = f"http://127.0.0.1:{port}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        if dark:
            arguments.append("--force-dark-mode")
        options = {"args": arguments, "binary": chromium}
        wanted = {"goog:chromeOptions": options, "acceptInsecureCerts": insecure}
        made = self._call("", {"capabilities": {"alwaysMatch": wanted}})
        self._url += f"/{made['sessionId']}"
        # A window is not made as narrow as a phone is: the page is.
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=1000,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def _call(self, path: str, body: object = None, method: str = "") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own driver
            self._url + path, data, {"Content-Type": "application/json"}, method=method or None
        )
        try:
            with _DIRECT.open(request, timeout=PATIENCE_SECONDS) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read().decode()[:2000]) from None

    def devtools(self, command: str, **parameters: object) -> Any:
        return self._call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, url: str) -> None:
        self._call("/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """What ``script`` returns; a promise is waited for."""
        return self._call("/execute/sync", {"script": script, "args": arguments})

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def cookies(self) -> list[dict[str, Any]]:
        """All that the browser has, those that no script sees, too."""
        found: list[dict[str, Any]] = self.devtools("Storage.getCookies")["cookies"]
        return found

    def picture(self) -> bytes:
        """The whole page, as PNG."""
        size = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        made = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(made["data"])

    def close(self) -> None:
        try:
            self._call("", method="DELETE")
        finally:
            self._driver.end()
            self._home.cleanup()


def axe_source(directory: Path) -> str:
    """The accessibility checker axe-core, from npm; raises `FileNotFoundError` without that."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm")
    try:
        subprocess.run(
            [npm, "install", "--silent", f"--prefix={directory}", f"axe-core@{AXE_VERSION}"],
            check=True,
            capture_output=True,
            timeout=60,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise FileNotFoundError("axe-core, which npm could not fetch") from None
    return (directory / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
