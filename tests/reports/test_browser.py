"""The HTML report in a real browser, where there is one: nothing is asked for, nothing complains, and it fits a phone."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
from fractions import Fraction
from html import unescape

import numpy as np
import pytest
from sample_checks import UNSURE, check, comparison, health, item

from pytest_robust.reports import html
from pytest_robust.reports.run import run
from pytest_robust.store.pictures import _drawn, _listed

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
         "--hide-scrollbars", "--enable-logging=stderr")  # fmt: skip
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")

# Around the report, for it runs no scripts itself. A folded check is unfolded, for it could be too wide as well.
FRAME = """<body><iframe src="report.html" style="width: %dpx; height: 800px; border: 0"></iframe>
<pre id="told"></pre><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, width = page.documentElement.clientWidth;
  page.querySelectorAll("details").forEach(found => found.open = true);
  const wide = [...page.querySelectorAll("body *")].filter(part => part.getBoundingClientRect().right > width + 1);
  document.getElementById("told").textContent = JSON.stringify({
    width: width,
    scrolls: page.documentElement.scrollWidth > width,
    wide: wide.map(part => part.tagName + "." + part.className + " " + part.textContent.slice(0, 40)),
    asked: frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name),
    pictures: [...page.images].map(image => image.complete && image.naturalWidth > 0),
    gate: page.querySelector(".gate strong").textContent,
    tiny: [...page.querySelectorAll("main *")].filter(part => part.childElementCount == 0 && part.textContent.trim()
      && page.defaultView.getComputedStyle(part).fontSize.replace("px", "") < 11).length,
  });
};
</script></body>"""


def report() -> str:
    """A page with everything on it, and long names."""
    rng = np.random.default_rng(0)
    image = rng.random((3, 8, 8), dtype=np.float32)
    about = {"label": "a" * 30, "predicted": "dog", "by": "pgd"}
    examples = [about | {"row": row} | _drawn(image, image**2, "[0, 1]") for row in (1, 2)]
    examples.append(about | {"row": 3} | _listed(image.ravel(), image.ravel() ** 2))
    points = [{"eps": e, "value": v, "n": 10, "bound": "exact", "robust": {"k": k, "n": 10, "low": 0.1, "high": 0.9}}
              for e, v, k in (("2/255", 2 / 255, 8), ("4/255", 4 / 255, 7), ("8/255", 8 / 255, 6))]  # fmt: skip
    long = "tests/a_folder/test_release.py::TestRelease::" + "test_with_a_very_long_name" * 4 + "[linf-8/255]"
    classes = ("x" * 40, "dog")
    checks = [
        check(long, floor=Fraction(1, 2), curve=points, classes=classes, comparison=comparison(4), replay=f"pytest {long}"),
        check("b", health=health("invalid", waived="known"), notes=("a note",), comparison=comparison(1, 1)),
        check("c", **UNSURE),
    ]
    items = [item(one["id"], "failed", one) for one in checks]
    items.append(item("t.py::broken", "failed", message="ValueError: " + "no_spaces_in_here" * 20))
    made = run(items, missing=["t.py::" + "lost" * 30], complete=False, version="1")
    return html.render(made, {long: {"examples": examples, "missing": ""}})


@pytest.fixture
def served(tmp_path):
    """A folder, and where a browser finds it."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **options):
            super().__init__(*args, directory=str(tmp_path), **options)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_fits_asks_for_nothing_and_nothing_complains(served, width):
    folder, address = served
    (folder / "report.html").write_text(report(), encoding="utf-8")
    (folder / "frame.html").write_text(FRAME % width, encoding="utf-8")
    command = [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", "--window-size=1300,1000",
               "--virtual-time-budget=10000", "--dump-dom", f"{address}/frame.html"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = json.loads(unescape(re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)[1]))
    assert "CONSOLE" not in done.stderr, done.stderr
    assert told["asked"] == []
    assert told["width"] == width
    assert told["wide"] == []
    assert not told["scrolls"]
    assert told["pictures"] == [True] * 6
    assert told["gate"] == "FAIL"
    assert told["tiny"] == 0
