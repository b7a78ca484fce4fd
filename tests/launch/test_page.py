"""The report of a work directory: one page with everything inside."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from ddjax.launch import page


class Page(html.parser.HTMLParser):
    """What a page refers to, and the texts of its cells."""

    def __init__(self, text: str):
        super().__init__()
        self.places: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)
        self.places += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data)


@pytest.fixture
def workdir(tmp_path):
    result = {
        "experiment": "random_init",
        "dataset": "a<b>",
        "recipe": {"kind": "train", "lr": 0.01, "augmentation": None},
        "seconds": {"total": 171.2},
        "command": "python -m experiments.random_init --dataset='a<b>'",
        "hardware": {"cpu": "one & only"},
        "versions": {"jax": "1"},
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "config.json").write_text(json.dumps({"seed": 3, "workdir": None, "inputs": {"data": "x"}}))
    for name, shape in (("curves.png", (4, 5)), ("distilled.png", (6, 7))):
        Image.fromarray(np.full(shape, 128, np.uint8)).save(tmp_path / name)
    return tmp_path


def test_the_page_holds_scores_pictures_recipe_command_and_machine(workdir):
    page.write(workdir, table="trained on  %\n<images>    84.6 ± 1.7")
    text = (workdir / page.NAME).read_text()
    found = Page(text)
    assert found.open == []
    assert all(place.startswith("data:") for place in found.places)
    pictures = [place.partition("base64,")[2] for place in found.places if "image/png" in place]
    sizes = [Image.open(io.BytesIO(base64.b64decode(one))).size for one in pictures]
    assert sizes == [(7, 6), (5, 4)], "φ comes first"
    told = set(found.texts)
    assert {"random_init on a<b>", "trained on  %\n<images>    84.6 ± 1.7", "0.01", "2m51s"} <= told
    assert {"python -m experiments.random_init --dataset='a<b>'", "one & only", "seed", "3"} <= told
    assert not {"workdir", "augmentation", "inputs"} & told, "what is not set is left out"


def test_texts_are_shown_in_words(workdir):
    (workdir / "distilled.txt").write_text("what is it & why\n")
    page.write(workdir, table="")
    assert "what is it & why\n" in Page((workdir / page.NAME).read_text()).texts


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")
def test_a_browser_shows_every_picture_and_complains_of_nothing(workdir):
    page.write(workdir, table="text")
    text = (workdir / page.NAME).read_text()
    script = "<script>document.title = [...document.images].map(i => i.naturalWidth).join()</script>"
    (workdir / "probe.html").write_text(text.replace("</body>", f"{script}</body>"))
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom")
    done = subprocess.run(
        [str(BROWSER), *flags, f"file://{workdir}/probe.html"], capture_output=True, text=True, check=True
    )
    assert "<title>7,5</title>" in done.stdout
    assert "CONSOLE" not in done.stderr
