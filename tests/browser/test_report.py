"""The page of a sweep as a browser without a network shows it, to who sees it, hears it, or has only a keyboard."""

import json
import shutil

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe

from latencylab import figures, paths, report_html

REACHABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The sample's page; one of its runs is invalid for a reason that HTML would take for its own."""
    copy = tmp_path_factory.mktemp("report") / "sweep"
    shutil.copytree(paths.SAMPLE, copy)
    record = copy / "1-camera" / "r1" / "run.json"
    info = json.loads(record.read_text())
    info["invalid_reasons"] = ["<script>alert(1)</script> & more"]
    record.write_text(json.dumps(info))
    return report_html.write_report(copy)


@pytest.fixture
def said():
    """What the browser complained of."""
    return []


@pytest.fixture
def asked():
    """What the page asked the network for."""
    return []


@pytest.fixture
def opened(page, report, said, asked):
    """The page, opened from the file with the network off."""
    page.context.set_offline(True)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    return page


def violations(page):
    """What axe finds against the page: rule -> elements."""
    return {
        found["id"]: [node["html"][:120] for node in found["nodes"]] for found in Axe().run(page).response["violations"]
    }


def test_it_opens_without_a_network(opened, report, said, asked, tmp_path):
    opened.screenshot(path=tmp_path / "report.png", full_page=True)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    images = opened.locator("img")
    assert images.count() == len(figures.FIGURES)
    for image in images.all():
        assert image.evaluate("image => image.complete && image.naturalWidth") > 400
        assert len(image.get_attribute("alt")) > 20
    assert opened.get_by_role("cell", name="<script>alert(1)</script> & more", exact=True).is_visible()


@pytest.mark.parametrize("width", [1200, 360], ids=["wide", "narrow"])
def test_axe_has_nothing_against_it(opened, width, tmp_path):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.locator("summary").click()
    opened.screenshot(path=tmp_path / "report.png")
    assert violations(opened) == {}
    assert opened.evaluate("document.documentElement.scrollWidth") <= width  # only tables scroll sideways


def test_axe_would_see_too_little_contrast(opened):
    opened.add_style_tag(content="body { color: #999; }")
    assert "color-contrast" in violations(opened)


def test_everything_that_does_something_is_reached_by_the_keyboard_and_shows_it(opened):
    expected = opened.locator(REACHABLE).count()
    reached = []
    for _ in range(expected):
        opened.keyboard.press("Tab")
        active = opened.evaluate_handle("document.activeElement").as_element()
        assert active.evaluate(f"element => element.matches({REACHABLE!r})")
        assert active.evaluate("element => getComputedStyle(element).outlineStyle") != "none"
        if active.evaluate("element => element.tagName") == "SUMMARY":
            opened.keyboard.press("Enter")  # what it hides comes next
        reached.append(
            opened.evaluate(f"[...document.querySelectorAll({REACHABLE!r})].indexOf(document.activeElement)")
        )
    assert reached == list(range(expected))


def test_the_first_tab_skips_to_the_report(opened):
    opened.keyboard.press("Tab")
    assert opened.get_by_text("Skip to the report").bounding_box()["x"] >= 0
    opened.keyboard.press("Enter")
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Counts, rates")


def test_the_numbers_behind_a_figure_can_be_saved(opened, tmp_path):
    with opened.expect_download() as download:
        opened.get_by_role("link", name="Numbers behind the figure cdf (CSV)").click()
    assert download.value.suggested_filename == "cdf.csv"
    download.value.save_as(tmp_path / "cdf.csv")
    assert list(pd.read_csv(tmp_path / "cdf.csv").columns) == ["point", "latency_ms", "share"]
