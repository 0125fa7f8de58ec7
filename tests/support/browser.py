"""A real browser, without a window: what it makes of a page, measured by a small script in a copy of it.

The copy has the script appended and its hash added to the page's content security policy, so the policy stays in
force. Nothing can be fetched: every host name is unknown to the browser.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PHONE, DESK = (390, 844), (1280, 900)
_LIMIT_S = 60
_DARK, _LIGHT = 0, 1  # of the browser's setting


def find_browser() -> str | None:
    """The first browser that there is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass(frozen=True)
class Browser:
    """Where the browser is, and a folder for what it writes."""

    program: str
    folder: Path

    def measure(self, page: Path, script: str, size: tuple[int, int] = DESK, dark: bool = False) -> tuple:
        """Runs the body of a function in a page when it is loaded.

        Returns:
            What it returned, by way of JSON, and what the browser's console said.
        """
        probe = (
            'addEventListener("load", () => { const found = (() => { ' + script + " })(); "
            'const element = document.createElement("pre"); element.id = "measured"; '
            "element.textContent = JSON.stringify(found); document.body.append(element); });"
        )
        digest = base64.b64encode(hashlib.sha256(probe.encode()).digest()).decode()
        text = page.read_text(encoding="utf-8")
        assert text.count("script-src '") == 1 and text.endswith("</html>\n")
        text = text.replace("script-src '", f"script-src 'sha256-{digest}' '")
        copy = self.folder / "measured.html"
        copy.write_text(text.replace("</body>", f"<script>{probe}</script></body>"), encoding="utf-8")
        done = self._run(copy, size, dark, "--dump-dom")
        found = re.findall(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
        assert len(found) == 1, done.stderr
        return json.loads(unescape(found[0])), re.findall(r".*:CONSOLE.*", done.stderr)

    def screenshot(self, page: Path, size: tuple[int, int] = DESK, dark: bool = False) -> Path:
        """A picture of the page's top."""
        path = self.folder / "page.png"
        path.unlink(missing_ok=True)
        self._run(page, size, dark, "--hide-scrollbars", f"--screenshot={path}")
        return path

    def print(self, page: Path) -> bytes:
        """The page on paper, as a PDF."""
        path = self.folder / "page.pdf"
        path.unlink(missing_ok=True)
        self._run(page, DESK, True, "--no-pdf-header-footer", f"--print-to-pdf={path}")
        return path.read_bytes()

    def _run(self, page: Path, size: tuple[int, int], dark: bool, *options: str) -> subprocess.CompletedProcess:
        command = [
            *(self.program, "--headless", "--disable-gpu", "--disable-dev-shm-usage"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # which root cannot have
            *(f"--user-data-dir={self.folder / 'profile'}", "--no-first-run", "--enable-logging=stderr"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking"),
            *(f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=5000"),
            *(f"--blink-settings=preferredColorScheme={_DARK if dark else _LIGHT}", *options, page.as_uri()),
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=True)
