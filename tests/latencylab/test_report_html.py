"""The page of a recorded sweep: self-contained, accessible, and true to the runs."""

import base64
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from latencylab import figures, report_html, tables
from latencylab.runs import RunError, find_runs

RECORDED = Path(__file__).parents[1] / "data" / "sweep"


class Page(HTMLParser):
    """Elements with their attributes, the ids, and the cells of each table by its caption."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables = [], {}
        self._cell, self._caption, self._row = None, "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("td", "th", "caption"):
            self._cell = ""
        elif tag == "tr":
            self._row = []

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag):
        if tag == "caption":
            self._caption = self._cell
            self.tables[self._caption] = []
        elif tag in ("td", "th"):
            self._row.append(self._cell)
        elif tag == "tr":
            self.tables[self._caption].append(self._row)
        if tag in ("td", "th", "caption"):
            self._cell = None

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def table(self, beginning):
        """The rows below the heading, as text."""
        header, *rows = next(rows for caption, rows in self.tables.items() if caption.startswith(beginning))
        return pd.DataFrame(rows, columns=header)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sweep, with its page; of one run the reasons hold what HTML would take for its own."""
    copy = tmp_path_factory.mktemp("report") / "sweep"
    shutil.copytree(RECORDED, copy)
    record = copy / "1-camera" / "r1" / "run.json"
    info = json.loads(record.read_text())
    info["invalid_reasons"] = ["<script>alert(1)</script> & more"]
    record.write_text(json.dumps(info))
    report_html.write_report(copy)
    return copy


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def decoded(url, kind):
    beginning = f"data:{kind};base64,"
    assert url.startswith(beginning)
    return base64.b64decode(url.removeprefix(beginning), validate=True)


def test_the_page_needs_nothing_but_itself(page):
    assert not page.all("script")
    assert not page.all("link")
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    urls = [a[name] for _, a in page.elements for name in ("src", "href") if name in a]
    assert urls
    for url in urls:
        assert url.startswith("data:") or url.removeprefix("#") in ids, url[:80]


def test_every_figure_is_there_with_its_alternative_text_and_numbers(folder, page):
    runs = find_runs(folder)
    assert [a["id"] for a in page.all("figure")] == [f"figure-{name}" for name in figures.FIGURES]
    downloads = {a["download"]: a["href"] for a in page.all("a") if "download" in a}
    for image, (name, draw) in zip(page.all("img"), figures.FIGURES.items(), strict=True):
        drawn = draw(runs)
        assert decoded(image["src"], "image/png").startswith(b"\x89PNG")
        assert image["alt"] == drawn.alt
        table = pd.read_csv(io.BytesIO(decoded(downloads[f"{name}.csv"], "text/csv")))
        named = drawn.data.index.name is not None
        assert list(table.columns) == [*([drawn.data.index.name] if named else []), *drawn.data.columns]
        assert len(table) == len(drawn.data)


def test_it_can_be_read_without_seeing_it(page):
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("a")[0]["href"] == "#main"
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3")]
    assert levels[0] == 1
    assert set(levels[1:]) == {2}
    for attributes in page.all("div"):
        assert attributes["tabindex"] == "0"  # what scrolls can be reached by the keyboard
        assert attributes["aria-label"]


def test_the_tables_are_those_of_the_runs(folder, page):
    runs = find_runs(folder)
    points = page.table("Counts, rates and end-to-end percentiles")
    expected = tables.point_table(runs)
    assert points.to_numpy().tolist() == [[str(cell) for cell in row] for row in expected.to_numpy().tolist()]
    validity = page.table("Every run").set_index("run")
    assert list(validity.index) == [run.info["run_id"] for run in runs]
    for run in runs:
        row = validity.loc[run.info["run_id"]]
        assert row["valid"] == ("valid" if run.valid else "INVALID")
        assert row["reasons"] == ("; ".join(run.info["invalid_reasons"]) or "–")
        assert row["labelled"] == str(run.info["counts"]["labelled"])
    assert validity.loc["default/2-cameras/1", "warm-up"] == "first 5 frames"


def test_the_provenance_lists_each_value_once(folder, page):
    runs = find_runs(folder)
    facts = page.table("What the numbers depend on").set_index("what")["value"]
    commits = dict.fromkeys(run.info["git"]["commit"] for run in runs)
    assert [part.split()[0] for part in facts["commit"].split(" | ")] == list(commits)
    assert facts["backend"] == "local"
    assert facts["images"] == "none: processes"
    assert f"numpy {runs[0].info['versions']['numpy']}" in facts["versions"]


def test_invalid_runs_are_counted_at_the_top(text):
    assert "4 runs of 4 points, recorded 2026-" in text
    assert "2 of them invalid." in text


def test_what_the_runs_say_is_text_not_markup(text):
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text


def test_the_page_tells_how_to_reproduce_it(folder, text):
    assert f"<code>latencylab reproduce {folder}</code>" in text


def test_equal_runs_give_an_equal_page_and_nothing_half_written(folder, text):
    assert report_html.render(folder) == text
    assert not list(folder.glob(".*"))


def test_a_folder_that_is_no_sweep_is_refused(folder, tmp_path):
    with pytest.raises(RunError, match=r"is no sweep: sweep\.json is missing"):
        report_html.write_report(folder / "1-camera")
    shutil.copy(folder / "sweep.json", tmp_path)
    with pytest.raises(RunError, match="no complete run"):
        report_html.write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_a_damaged_design_is_named(tmp_path):
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(RunError, match=r"sweep\.json is damaged"):
        report_html.write_report(tmp_path)
