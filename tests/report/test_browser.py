"""The page in a browser: on a phone, a tablet and a desk no element is wider than its box; a desk shows the answers."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

WIDTHS = (360, 768, 1400)  # px
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
COMMITTED = Path(__file__).parents[2] / "report" / "report.html"
# In the page: opens what is closed, and tells the page around it what is wider than its box and cannot be scrolled.
INSIDE = """<script>
addEventListener("load", () => {
  const name = (e) => `${e.localName}.${e.className}: ${e.textContent.trim().slice(0, 60)}`;
  const scrolls = (e) => ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
  const all = () => [...document.querySelectorAll("body, body *:not(svg, svg *, math, math *)")];
  const wide = () => all().filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1 && !scrolls(e)).map(name);
  const answers = [...document.querySelectorAll("main > ul > li > ul > li:first-child")];
  const first = answers.map((e) => e.getBoundingClientRect().bottom);
  for (const box of document.querySelectorAll("details")) box.open = true;
  setTimeout(() => {
    const root = document.documentElement;
    const page = root.scrollWidth > root.clientWidth ? [`the page itself: ${root.scrollWidth} px`] : [];
    const facts = {
      tables: document.querySelectorAll(".scroll > table").length, cards: document.querySelectorAll(".card").length,
      first, width: root.clientWidth, wide: [...page, ...wide()],
      options: [...document.querySelectorAll(".filters label:has(select)")].map((e) => [
        e.firstChild.textContent, [...e.querySelectorAll("option")].map((o) => o.textContent)]),
    };
    parent.postMessage(JSON.stringify(facts), "*");
  }, 500);
});
</script>"""
OUTSIDE = """<!doctype html><body>FRAMES<script>
addEventListener("message", (e) => {
  document.body.append(Object.assign(document.createElement("pre"), {textContent: e.data}));
});
</script>"""


def measured(page: Path, folder: Path) -> dict[int, dict]:
    """What the script above says of a page, by width."""
    text = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page.read_text(encoding="utf-8"))
    (folder / "inside.html").write_text(text.replace("</body>", f"{INSIDE}</body>"), encoding="utf-8")
    frames = "".join(f'<iframe src="inside.html" style="width:{w}px;height:900px;border:0"></iframe>' for w in WIDTHS)
    (folder / "outside.html").write_text(OUTSIDE.replace("FRAMES", frames), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000", "--hide-scrollbars"]
    options += [f"--user-data-dir={folder / 'profile'}", "--dump-dom", (folder / "outside.html").as_uri()]
    done = subprocess.run([BROWSER, *options], capture_output=True, text=True, timeout=240, check=False)
    said = [json.loads(html.unescape(text)) for text in re.findall(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)]
    return {facts.pop("width"): facts for facts in said}


@pytest.mark.skipif(not BROWSER, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize("which", ["committed", "made"])
def test_no_element_is_wider_than_its_box(which, tmp_path, request):
    page = COMMITTED if which == "committed" else request.getfixturevalue("smoke")[0]
    facts = measured(page, tmp_path)
    assert sorted(facts) == list(WIDTHS)
    assert all(said["tables"] > 5 and said["cards"] for said in facts.values())
    read = {"Input": {"any", "Text", "Picture", "Picture + text"}, "Language": {"any", "English", "Hindi"}}
    options = [(name, set(values)) for name, values in facts[1400]["options"] if name in read]
    assert options and all(values <= read[name] for name, values in options)
    assert len(facts[1400]["first"]) == 2 and max(facts[1400]["first"]) < 800  # both questions, answered on real data
    assert {width: said["wide"] for width, said in facts.items() if said["wide"]} == {}
