"""The notebooks in JupyterLab: the panel measures and stops the real pipeline, the picker sets what is analysed."""

import contextlib
import re
import shutil
import time

import nbformat
import psutil
import pytest
from playwright.sync_api import Page, expect

from latencylab import paths
from latencylab.runs import find_runs, run_folders

LONG_MS = 300_000  # bringing the pipeline up on a busy machine


@pytest.fixture(scope="module", autouse=True)
def small(lab):
    """Fewer batch sizes for the server to warm up; all else is as committed."""
    notebook = nbformat.read(lab.notebooks / "02_run_point.ipynb", 4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    assert "batch_max: int = 8" in cell.source
    cell.source = cell.source.replace("batch_max: int = 8", "batch_max: int = 1")
    nbformat.write(notebook, lab.notebooks / "02_run_point.ipynb")


def run_up_to(page: Page, source: str) -> None:
    """Execute the cells from the first one to that with this source."""
    first = page.locator(".jp-CodeCell").first
    for _ in range(10):  # JupyterLab 4.6 loses what is executed while the connection to a new kernel comes up
        first.locator(".cm-content").click()
        menu(page, "Run", "Run Selected Cell")
        with contextlib.suppress(AssertionError):
            expect(first.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]:"), timeout=10_000)
            break
    page.locator(".jp-CodeCell .cm-content", has_text=source).click()
    menu(page, "Run", "Run All Above Selected Cell")
    menu(page, "Run", "Run Selected Cell")


def menu(page: Page, name: str, item: str) -> None:
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{name}$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{item}$")).click()


def set_field(page: Page, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).fill(value)
    page.keyboard.press("Tab")


def frames_shown(page: Page) -> int:
    return page.locator(".jp-OutputArea svg circle").count()


def wait_for_frames(page: Page, at_least: int) -> int:
    page.wait_for_function(
        "count => document.querySelectorAll('.jp-OutputArea svg circle').length >= count", arg=at_least, timeout=LONG_MS
    )
    return frames_shown(page)


def pipeline(data) -> list[str]:
    """What runs for the lab's data folder: neither JupyterLab nor its kernels nor their idle fork servers."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            ours = process.environ().get("LATENCYLAB_DATA") == str(data)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if ours and not re.search(r"jupyterlab|ipykernel_launcher", command):
            children = process.children() if "backends.forkserver" in command else [process]
            found += [child.name() for child in children]
    return found


def test_the_panel_measures_a_point_and_shows_its_latencies_meanwhile(lab, page, tmp_path):
    lab.open(page, "02_run_point.ipynb")
    run_up_to(page, "session.panel")
    begin, end = page.get_by_role("button", name="Run", exact=True), page.get_by_role("button", name="Stop", exact=True)
    expect(begin).to_be_enabled()
    expect(end).to_be_disabled()
    expect(page.get_by_label("Point", exact=True).locator("option")).to_contain_text(
        ["the parameters above", "capacity: 4-cameras", "default: 1-camera"]
    )
    page.screenshot(path=tmp_path / "panel.png")
    set_field(page, "Frames/s per camera", "2")
    set_field(page, "Load (s)", "8")
    begin.click()
    expect(end).to_be_enabled()
    first = wait_for_frames(page, 1)
    page.screenshot(path=tmp_path / "running.png")
    assert wait_for_frames(page, first + 2) > first  # it was drawn at least twice
    expect(page.get_by_role("img", name=re.compile(r"\d+ frames so far: median \d+ ms"))).to_be_visible()
    expect(end).to_be_enabled()  # while the run is still going on
    expect(page.get_by_text("Recorded in")).to_be_visible(timeout=LONG_MS)
    verdict = page.get_by_label("Verdict").inner_text()
    (run,) = find_runs(lab.data / "runs" / "by-hand")
    assert (run.point, run.info["repetition"]) == ("rate_hz=2.0,duration_s=8.0,batch_max=1", 1)
    assert run.info["counts"]["labelled"] == 16
    assert f'"labelled": {run.info["counts"]["labelled"]}' in verdict
    assert ("\nvalid" if run.valid else "\nINVALID: ") in verdict
    expect(begin).to_be_enabled()
    page.locator(".jp-CodeCell .cm-content", has_text="session.measure").click()
    menu(page, "Run", "Run Selected Cell and All Below")
    expect(page.locator(".jp-OutputArea img")).to_have_count(2)
    expect(page.locator(".jp-CodeCell", has_text="session.verdict")).to_contain_text('{"scheduled": 16')
    assert len(find_runs(lab.data / "runs")) == 1  # the cells below showed the panel's run
    page.screenshot(path=tmp_path / "measured.png", full_page=True)


def test_stop_leaves_no_process_and_no_folder(lab, page, tmp_path):
    recorded = set((lab.data / "runs").rglob("*")) if (lab.data / "runs").exists() else set()
    lab.open(page, "02_run_point.ipynb")
    run_up_to(page, "session.panel")
    set_field(page, "Load (s)", "300")
    page.get_by_role("button", name="Run", exact=True).click()
    wait_for_frames(page, 2)
    assert {"java", "python"} <= {re.sub(r"[\d.]+$", "", name) for name in pipeline(lab.data)}
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text("Stopped; nothing of the run was kept.")).to_be_visible()
    page.screenshot(path=tmp_path / "stopped.png")
    deadline = time.monotonic() + 30
    while (left := pipeline(lab.data)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left
    assert not (lab.data / "stack").exists()
    assert {
        path for path in (lab.data / "runs").rglob("*") if path.is_file() or path.name.startswith((".", "r"))
    } <= recorded
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled()


def test_what_is_picked_is_analysed(lab, page, tmp_path):
    own = lab.data / "runs" / "own"
    shutil.copytree(paths.SAMPLE / "2-cameras" / "r1", own / "2-cameras" / "r1")
    lab.open(page, "03_analyse.ipynb")
    run_up_to(page, "session.pick")
    picker = page.get_by_label("Runs of", exact=True)
    expect(picker.locator("option:checked")).to_have_text(f"data/sample ({len(run_folders(paths.SAMPLE))} runs)")
    picker.select_option(f"{own} (1 run)")
    expect(page.get_by_role("status")).to_contain_text("now run the cells below")
    table = page.locator(".jp-OutputArea-output", has_text="offered/s").first
    expect(table).to_contain_text("8-cameras")  # as committed
    menu(page, "Run", "Run Selected Cell and All Below")
    expect(table).not_to_contain_text("8-cameras")
    expect(table).to_contain_text("2-cameras")
    page.screenshot(path=tmp_path / "picked.png")
    menu(page, "Run", "Run All Cells")  # which shows the list anew, with what was picked
    expect(picker.locator("option:checked")).to_have_text(f"{own} (1 run)")
