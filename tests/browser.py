"""A page in a headless browser, driven by a script inside a copy of it: nothing but the browser is needed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--enable-logging=stderr",
)

LEAST_WIDTH = 500
"""Of a window: the browser makes no narrower one, so the page is then put into a frame."""

FIRST = """<script>"use strict";
const report = { errors: [] };
addEventListener("error", (event) => report.errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => report.errors.push(`blocked ${event.blockedURI}`));
</script>"""
LAST = """<script>"use strict";
try { %s } catch (error) { report.errors.push(String(error)); }
const box = parent.document;  // the frame's, where the page is in one
box.body.append(Object.assign(box.createElement("pre"), { id: "report", textContent: JSON.stringify(report) }));
</script>"""


def browse(page: Path, script: str, folder: Path, width: int = 1280) -> dict[str, Any]:
    """Open a copy of ``page`` from ``folder`` as a file, run ``script`` in it and return its ``report``.

    ``report.errors`` lists errors of the page's scripts, what its security policy blocked, and lines of the console.
    """
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{FIRST}", 1)
    text = text.replace("</body>", f"{LAST % script}</body>")
    if width < LEAST_WIDTH:
        frame = f'<iframe width="{width}" height="900" style="border: 0" srcdoc="{escape(text)}"></iframe>'
        text = f'<!doctype html><html lang="en"><body>{frame}</body></html>'
    copy = folder / page.name
    copy.write_text(text, encoding="utf-8")
    size = [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900"]
    command = [str(BROWSER), *FLAGS, *size, "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    found = re.search(r'<pre id="report">(.*?)</pre>', done.stdout, re.S)
    assert found, f"the page did not come to its end:\n{done.stderr[-2000:]}"
    report = json.loads(unescape(found[1]))
    report["errors"] += [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return report
