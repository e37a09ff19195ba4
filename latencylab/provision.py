"""The playbooks of ansible/ from Python, with progress per task: four machines become a labelled cluster."""

import os
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ansible_runner
from tqdm.auto import tqdm

from latencylab import paths
from latencylab.chameleon.during import STATE
from latencylab.chameleon.guard import Guard

ANSIBLE: Final = paths.ROOT / "ansible"
KUBECONFIG: Final = STATE / "kubeconfig"


class ProvisionError(RuntimeError):
    """A playbook that failed; the text names the task and machine and says what it said."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the machines come from, as the playbooks take it."""

    machines_from: str = "inventory"
    inventory: Path = ANSIBLE / "inventory.yml"
    values: dict[str, Any] = field(default_factory=dict)
    """Further variables of the playbooks."""

    def __post_init__(self) -> None:
        if self.machines_from not in ("inventory", "chameleon"):
            raise ValueError(f"machines_from is {self.machines_from!r}; it must be inventory or chameleon")
        if self.machines_from == "inventory" and not self.inventory.is_file():
            example = paths.shown(ANSIBLE / "inventory.example.yml")
            raise ValueError(f"there is no inventory {paths.shown(self.inventory)}; copy {example} and fill it in")


@dataclass(slots=True)
class Progress:
    """What a playbook said while it ran: a bar of tasks, the messages of its tables, its failures."""

    bar: tqdm
    said: dict[str, list[str]] = field(default_factory=dict)
    """Messages of debug tasks by the task's name."""
    failures: list[str] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> bool:
        """Digest one event of ansible-runner; True, as it is to be kept."""
        data = event.get("event_data", {})
        result = data.get("res") or {}
        match event["event"]:
            case "playbook_on_task_start":
                self.bar.update()
                self.bar.set_postfix_str(data.get("name", ""))
            case "runner_on_ok" if data.get("resolved_action") == "ansible.builtin.debug" and "msg" in result:
                message = result["msg"]
                self.said[data["task"]] = message if isinstance(message, list) else [str(message)]
            case "runner_on_failed" | "runner_on_unreachable" if not data.get("ignore_errors"):
                self.failures.append(f"{data['host']}, {data['task']}: {_reason(result)}")
        return True


def _reason(result: dict[str, Any]) -> str:
    """Why a task failed, from whichever field its module put it in."""
    items = [r for r in result.get("results", ()) if r.get("failed")] or [result]
    texts = [r.get("stderr") or r.get("msg") or "no message" for r in items]
    return "; ".join(dict.fromkeys(" ".join(str(text).split()) for text in texts))


def run_playbook(playbook: str, site: Site, project: Path = ANSIBLE) -> Progress:
    """Run one playbook of `project`; the bar counts its tasks.

    Raises `ProvisionError` with the failures, `KeyboardInterrupt` when it was interrupted (ansible is stopped by then).
    """
    values = {"machines_from": site.machines_from, **site.values}
    # a kernel's PATH need not have the programs of its own environment
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    # for a lease the inventory is what machines.yml adds while it runs
    inventory = str(site.inventory) if site.machines_from == "inventory" else "localhost,"
    with (
        tempfile.TemporaryDirectory(prefix="latencylab-ansible-") as private,
        tqdm(
            desc=playbook.removesuffix(".yml"), unit=" tasks", bar_format="{desc}: {n} tasks, {elapsed}{postfix}"
        ) as bar,
    ):
        progress = Progress(bar)
        run = ansible_runner.run(
            private_data_dir=private,
            project_dir=str(project),
            playbook=playbook,
            inventory=inventory,
            extravars=values,
            envvars={"ANSIBLE_CONFIG": str(project / "ansible.cfg"), "PATH": path},
            event_handler=progress.take,
            quiet=True,
        )
        if run.status == "canceled":
            raise KeyboardInterrupt
        if run.rc != 0:
            last = run.stdout.read()[-2000:] if not progress.failures else ""
            raise ProvisionError(f"{playbook} failed:\n" + "\n".join(progress.failures or [last]))
    return progress


def provision(site: Site, cloud: str = "chameleon", prefix: str = "latencylab", keep: bool = True) -> Progress:
    """From `site` to a labelled cluster with the pipeline's images; returns what site.yml said.

    Machines of a lease are removed, and the lease is ended, when this fails, is interrupted, or its process dies; with
    `keep` they stay after success, until the lease ends or teardown.yml. An inventory's machines are left as they are.
    """
    if site.machines_from == "inventory":
        guard: Any = nullcontext()
    else:
        site.values.update(chameleon_cloud=cloud, chameleon_prefix=prefix)
        guard = Guard(cloud, prefix, STATE)
    with guard as guarding:
        progress = run_playbook("site.yml", site)
        if guarding is not None and keep:
            guarding.keep()
    return progress


def show(said: Progress) -> None:
    """Print the tables of nodes, clocks and pods, and the price of the lease and the tunnel where there is one."""
    for task in ("Node table", "Clock table", "Pod table", "Price of the lease", "How to reach the cluster from here"):
        if task in said.said:
            print(*said.said[task], sep="\n", end="\n\n")


def use_cluster(kubeconfig: Path = KUBECONFIG, overlay: str = "chameleon-4vm") -> None:
    """Point the kubernetes backend of this process at the cluster, and print how a shell does the same.

    Raises `ProvisionError` when there is no kubeconfig yet.
    """
    if not kubeconfig.is_file():
        raise ProvisionError(f"there is no {paths.shown(kubeconfig)}: the cluster has not been made, or was taken down")
    for name, value in {"KUBECONFIG": str(kubeconfig), "LATENCYLAB_OVERLAY": overlay}.items():
        os.environ[name] = value
        print(f"export {name}={value}")
