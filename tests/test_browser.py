"""Pages and the Space in a real browser. It needs `pip install playwright gradio` and a Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from conftest import REPOSITORY
from test_visualization import make_result
from training_common import make_model

from hf_rationale.visualization import render_html


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if (chromium := shutil.which("chromium") or shutil.which("chromium-browser")) is None:
        pytest.skip("There is no Chromium.")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_filtered_sorted_and_unfolded_by_keyboard(browser, tmp_path, scheme):
    texts = ["good", "bad", "fine", "x " * 3000]
    results = [make_result(text, label=label) for text, label in zip(texts, ("yes", "no", "yes", "no"), strict=True)]
    for result, score in zip(results, (0.9, 0.6, 0.8, 0.7), strict=True):
        result["score"] = score
    path = tmp_path / "page.html"
    path.write_text(render_html(texts, results, labels=["yes", "yes", "yes", "no"]), encoding="utf-8")
    page = browser.new_page(color_scheme=scheme)
    page.goto(path.as_uri())

    def shown() -> list[str]:
        """The scores of the visible cards, from top to bottom."""
        cards = [
            (card.bounding_box(), card.locator(".value").first.inner_text()) for card in page.locator("article").all()
        ]
        return [score for _, score in sorted((box["y"], score) for box, score in cards if box is not None)]

    assert shown() == ["90.0%", "60.0%", "80.0%", "70.0%"]
    page.get_by_label("no", exact=True).check()
    assert shown() == ["60.0%", "70.0%"]
    page.get_by_label("wrong", exact=True).check()
    assert shown() == ["60.0%"]
    page.get_by_label("all", exact=True).check()
    page.get_by_label("lowest score first").check()
    assert shown() == ["60.0%", "70.0%", "80.0%", "90.0%"]
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1
    page.close()


def test_two_models_side_by_side(browser, tmp_path):
    """Side by side on a wide screen, and one below the other on a telephone, without scrolling to the side."""
    texts = ["a good beer", "bad beer"]
    mine = [make_result(texts[0], (2, 6), label="yes"), make_result(texts[1], (0, 3), label="no")]
    others = [make_result(texts[0], (7, 11), label="no"), make_result(texts[1], (0, 3), label="no")]
    path = tmp_path / "page.html"
    path.write_text(render_html(texts, {"RNP": mine, "N2R": others}), encoding="utf-8")
    for width in (1200, 360):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(path.as_uri())
        left, right = (section.bounding_box() for section in page.locator("article").first.locator("section").all())
        assert (left["y"] == right["y"]) == (width == 1200)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_label("different labels").check()
        assert [card.is_visible() for card in page.locator("article").all()] == [True, False]
        page.close()


def test_the_space_explains_and_names_what_is_wrong(browser, tmp_path):
    pytest.importorskip("gradio")
    model, tokenizer = make_model(selection_level="word")
    for name in ("first", "second"):
        model.eval().save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "MODELS": f"{tmp_path / 'first'} {tmp_path / 'second'}",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "PYTHONPATH": str(REPOSITORY),
    }
    server = subprocess.Popen([sys.executable, str(REPOSITORY / "examples" / "space" / "app.py")], env=environment)
    try:
        wait_for(port)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_label("Text", exact=True).fill("the beer was lovely .")
        page.get_by_label("Model 2").click()
        page.get_by_role("option", name="second").click()
        page.get_by_role("button", name="Explain").click()
        page.wait_for_selector("text=LABEL_1", timeout=60000)
        assert page.get_by_text("LABEL_0").count() >= 2  # one of each model
        page.get_by_label("Text", exact=True).fill(" ")
        page.get_by_role("button", name="Explain").click()
        page.wait_for_selector("text=Type a text", timeout=60000)
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int):
    for _ in range(600):
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("The demo has not started in a minute.")
