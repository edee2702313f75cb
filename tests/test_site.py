"`make site`: every chapter in order, links that lead somewhere, no request to another host, nothing that only the notebooks should hold."
import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from demo_page import MISSING, browser

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = [Path("index"), *(p.relative_to(ROOT/"nbs").with_suffix("") for part in ("1_papers", "2_study", "3_tools")
                             for p in sorted((ROOT/"nbs"/part).glob("*.ipynb")))]
NEEDED = ("material", "mkdocstrings", "griffe", "mathjax")
pytestmark = pytest.mark.skipif(not all(map(importlib.util.find_spec, NEEDED)), reason="no MkDocs; pip install 'srgan_study[docs]'")


class Page(HTMLParser):
    "What the tests ask of a page: its anchors, its links and what it loads."
    def __init__(self, path: Path):
        super().__init__()
        self.text, self.ids, self.links, self.loaded = path.read_text(encoding="utf-8"), [], [], []
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found: self.ids.append(found["id"])
        if tag == "a" and found.get("href"): self.links.append(found["href"])
        self.loaded += [found[key] for key in ("src", "srcset", "data", "poster") if found.get(key)]
        if tag == "link" and found.get("rel") not in ("canonical", "prev", "next"): self.loaded.append(found["href"])
        if tag in ("use", "image"): self.loaded += [found[key] for key in ("href", "xlink:href") if found.get(key)]

    @functools.cached_property
    def words(self) -> str:
        "The text that a reader sees, without spaces, which colours put anywhere in code."
        return squeezed(re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", "", self.text, flags=re.S))


def squeezed(text: str) -> str:
    for entity, sign in {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&#36;": "$", "&amp;": "&"}.items():
        text = text.replace(entity, sign)
    return re.sub(r"\s", "", text)


def cells(chapter: Path) -> list[dict]:
    return json.loads((ROOT/"nbs"/f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("site")/"site"
    done = subprocess.run([Path(sys.executable).parent/"mkdocs", "build", "--quiet", "--strict", "--site-dir", place], cwd=ROOT,
                          capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "SITE_URL": ""})
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return place


@pytest.fixture(scope="module")
def pages(site):
    "Address -> page; 404.html is written for the root of a host."
    return {str(p.relative_to(site)): Page(p) for p in sorted(site.rglob("*.html")) if p.name != "404.html"}


def test_every_chapter_is_there_in_order(pages):
    navigation = [link for link in pages["index.html"].links if re.fullmatch(r"(index|[123]_\w+/\w+|api/\w+)\.html", link)]
    modules = re.findall(r"^#\| default_exp (\w+)", "\n".join("".join(c["source"]) for chapter in CHAPTERS for c in cells(chapter)), re.M)
    expected = [*(f"{chapter}.html" for chapter in CHAPTERS), *(f"api/{name}.html" for name in modules)]
    assert sorted(expected) == sorted(pages)
    first = list(dict.fromkeys(navigation))
    assert first == expected
    for chapter in CHAPTERS:
        heading = "".join(cells(chapter)[0]["source"]).split("\n")[0]
        assert squeezed(heading.lstrip("# ")) in pages[f"{chapter}.html"].words


def test_links_and_anchors_lead_somewhere(site, pages):
    broken = []
    for place, page in pages.items():
        for link in [*page.links, *page.loaded]:
            address = urlsplit(link)
            if address.scheme: continue
            target = (site/place).parent/unquote(address.path) if address.path else site/place
            anchors = pages.get(os.path.relpath(target, site))
            if not target.is_file() or (address.fragment and anchors and unquote(address.fragment) not in anchors.ids):
                broken.append((place, link))
    assert not broken
    assert {place: double for place, page in pages.items() if (double := [i for i, n in Counter(page.ids).items() if n > 1])} == {}
    assert not [place for place, page in pages.items() if any(".ipynb" in link for link in page.links)]


def test_prose_links_to_the_api(pages):
    for chapter, whole in {"1_papers/05_perceptual_loss": "perceptual.html#srgan_study.perceptual.PerceptualLoss",
                           "1_papers/02_patches": "patches.html#srgan_study.patches.Patches"}.items():
        assert f"../api/{whole}" in pages[f"{chapter}.html"].links
    page = pages["api/adversarial.html"]
    assert "logitsofrealimages,anyshape,usually(N,1)" in page.words # the comment of a parameter
    assert {"srgan_study.adversarial.Discriminator", "srgan_study.adversarial.relativistic_average_loss"} <= set(page.ids)


def test_nothing_but_the_book(pages):
    "No line for nbdev, no collapsed or hidden cell, no place of a machine; all other code and every figure."
    for chapter in CHAPTERS:
        page, figures = pages[f"{chapter}.html"], 0
        for cell in cells(chapter):
            if cell["cell_type"] != "code": continue
            figures += sum("image/png" in output.get("data", {}) for output in cell["outputs"])
            code = "".join(line for line in "".join(cell["source"]).splitlines(True) if not line.startswith("#|"))
            hidden = cell["metadata"].get("jupyter", {}).get("source_hidden") or "#| hide" in "".join(cell["source"])
            if code.strip(): assert (squeezed(code) in page.words) != bool(hidden), code
        assert page.text.count('class="figure"') == figures
    for place, page in pages.items():
        assert not re.search(r"#\|(export|hide|default_exp|echo)", page.words), place
        assert not re.search(r"(?<![\w.~/-])/(?:home|root|work|tmp|usr|opt|Users|var)/|[A-Z]:\\Users", page.text), place
        assert str(ROOT) not in page.text, place
        assert not re.search(r"(?<![\w.])(?:192\.168|10\.\d+)\.\d+\.\d+", page.text), place


def test_no_other_host_is_asked(site, pages):
    assert {link for page in pages.values() for link in page.loaded if re.match(r"(?:https?:)?//", link)} == set()
    styles = "".join(p.read_text(encoding="utf-8") for p in site.rglob("*.css"))
    assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", styles)
    assert all(("mathjax.js" in page.text) == ('class="arithmatex"' in page.text) for page in pages.values())


def test_search_finds_a_word_of_each_chapter(site):
    entries = json.loads((site/"search/search_index.json").read_text(encoding="utf-8"))["docs"]
    for chapter in CHAPTERS:
        text = squeezed(" ".join(entry["title"] + entry["text"] for entry in entries if entry["location"].split("#")[0] == f"{chapter}.html"))
        longest = max(re.findall(r"[A-Za-z]+", "".join(cells(chapter)[0]["source"])), key=len)
        assert longest in text, chapter


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_opened_from_disk(site):
    "Equations are drawn and the search answers without a server, and nothing else is asked for."
    with browser() as chromium:
        page = chromium.new_context(viewport=dict(width=400, height=800)).new_page()
        page.set_default_timeout(180_000)
        asked, errors = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((site/"1_papers/05_perceptual_loss.html").as_uri())
        page.locator("mjx-container svg").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than a telephone"
        page.locator("label[for=__search]").first.click()
        page.get_by_role("textbox", name="Search").press_sequentially("checkerboard")
        page.locator(".md-search-result__link").first.wait_for()
        assert page.locator(".md-search-result__link").first.get_attribute("href").startswith("file:")
        assert not page.locator("mjx-merror").count()
    assert asked and not [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))]
    assert errors == []
