"""The pipeline on four real machines, each component group on its own, and a small sweep through the notebooks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.machines, pytest.mark.timeout(3600)]
HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture
def loaded(site):
    """The cluster with the images on the machines that need each."""
    if site.playbook != "site.yml":
        pytest.skip("NOT TESTED: no images; LATENCYLAB_IMAGES must name the folder of `scripts/images.sh save FOLDER`")
    return site.machines


@pytest.fixture
def latencylab(loaded, tmp_path):
    """latencylab(ARGUMENT...): the command on the machines' network; its output."""

    def run(*arguments: str) -> str:
        environment = {
            **os.environ,
            "KUBECONFIG": str(loaded.state / "kubeconfig"),
            "LATENCYLAB_OVERLAY": "chameleon-4vm",
            "LATENCYLAB_COMPONENTS": "ferretdb",
            "LATENCYLAB_DATA": str(tmp_path),
        }
        command = [str(loaded.folder / "in"), str(Path(sys.executable).with_name("latencylab")), *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_sweep_on_four_machines(loaded, latencylab, tmp_path):
    try:
        latencylab("up", "--backend", "kubernetes")
        placed = loaded.playbook("verify.yml", verify_need_pods=True)
        assert placed.code == 0, placed.output
        latencylab("sweep", str(HERE / "sweep.yaml"))
    finally:
        latencylab("down", "--backend", "kubernetes")

    assert (tmp_path / "runs" / "four-machines" / "figures" / "cdf.png").is_file()
    runs = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("runs/*/*/*/run.json"))]
    assert len(runs) == 2
    for run in runs:
        counts = run["counts"]
        assert counts["scheduled"] == counts["sent"] == counts["stored"] == counts["labelled"], counts
        pairs = run["running"]["clocks"]
        assert {"vm1", "vm3"} <= {pair[end] for pair in pairs for end in ("asker", "responder")}, pairs
        assert all(pair["bound_ns"] > 0 for pair in pairs)
