import os
from pathlib import Path

import pytest
from papermill.exceptions import PapermillExecutionError

from latencylab import paths
from latencylab.notebooks import execute_notebook, parameters_of
from latencylab.provision import ProvisionError, Site, provision, run_playbook, show, use_cluster

PLAY = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - name: Node table
      ansible.builtin.debug:
        msg: [one, "{{ word }}"]
    - name: Remark
      ansible.builtin.debug:
        msg: only
    - name: Judge
      ansible.builtin.assert:
        that: item == 'good'
        fail_msg: "{{ item }} is not good"
      loop: "{{ items }}"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "ansible.cfg").write_text("[defaults]\nhost_key_checking = True\n")
    (tmp_path / "inventory.yml").write_text("all: {hosts: {here: {}}}\n")
    return tmp_path


def site(project: Path, *items: str) -> Site:
    return Site(inventory=project / "inventory.yml", values={"word": "two", "items": list(items)})


def test_tables_are_kept_and_tasks_counted(project):
    progress = run_playbook("play.yml", site(project, "good"), project)
    assert progress.said == {"Node table": ["one", "two"], "Remark": ["only"]}
    assert progress.bar.n == 3
    assert progress.failures == []


def test_a_failure_names_machine_task_and_reason(project):
    with pytest.raises(ProvisionError, match=r"play.yml failed:\nhere, Judge: bad is not good$"):
        run_playbook("play.yml", site(project, "good", "bad"), project)


def test_a_playbook_that_does_not_parse_is_shown(project):
    (project / "broken.yml").write_text("- hosts: all\n  nonsense: true\n")
    with pytest.raises(ProvisionError, match="nonsense"):
        run_playbook("broken.yml", site(project), project)


def test_a_missing_inventory_names_the_example(tmp_path):
    with pytest.raises(ValueError, match=r"inventory\.example\.yml and fill it in"):
        Site(inventory=tmp_path / "inventory.yml")


def test_an_unknown_source_of_machines_is_refused():
    with pytest.raises(ValueError, match="'cloud'; it must be inventory or chameleon"):
        Site(machines_from="cloud")


def test_a_cluster_that_can_not_be_is_refused_by_the_real_playbook(tmp_path):
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("all: {children: {producer: {hosts: {vm1: {ansible_connection: local}}}}}\n")
    with pytest.raises(ProvisionError, match="group inference has 0 machines; it must have exactly one"):
        provision(Site(inventory=inventory))


def test_the_tables_are_printed(project, capsys):
    show(run_playbook("play.yml", site(project, "good"), project))
    assert capsys.readouterr().out == "one\ntwo\n\n"


def test_the_cluster_is_named_to_this_process_and_to_a_shell(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KUBECONFIG", "other")
    monkeypatch.setenv("LATENCYLAB_OVERLAY", "other")
    with pytest.raises(ProvisionError, match="has not been made"):
        use_cluster(tmp_path / "kubeconfig")
    (tmp_path / "kubeconfig").touch()
    use_cluster(tmp_path / "kubeconfig")
    assert os.environ["KUBECONFIG"] == str(tmp_path / "kubeconfig")
    assert os.environ["LATENCYLAB_OVERLAY"] == "chameleon-4vm"
    assert f"export KUBECONFIG={tmp_path / 'kubeconfig'}" in capsys.readouterr().out


def test_the_notebook_s_parameters_are_those_of_the_site():
    names = set(parameters_of(paths.NOTEBOOKS / "00_provision.ipynb"))
    wanted = {"machines_from", "inventory", "cloud", "prefix", "flavor", "lease_minutes", "su_per_machine_hour", "keep"}
    assert names == wanted


def test_the_notebook_runs_up_to_the_refusal_of_a_missing_inventory(tmp_path):
    values = {"inventory": str(tmp_path / "none.yml")}
    with pytest.raises(PapermillExecutionError, match="there is no inventory"):
        execute_notebook(paths.NOTEBOOKS / "00_provision.ipynb", tmp_path / "out.ipynb", values)
