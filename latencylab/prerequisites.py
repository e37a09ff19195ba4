"""What must be on a machine before the project can install the rest itself."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from latencylab import paths


@dataclass(frozen=True)
class Finding:
    """One prerequisite: whether it is met, what was found, and what to do if it is not."""

    name: str
    met: bool
    found: str
    remedy: str
    required: bool = True


def _first_line(*command: str) -> str:
    """First line of what a command prints, empty when it can't be run."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    text = (done.stdout or done.stderr).strip()
    return re.sub(r"\x1b\[[0-9;]*m", "", text.splitlines()[0]) if text else ""


def _python() -> Finding:
    met = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Finding(
        "python", met, sys.version.split()[0], "install Python 3.11 or 3.12 and run  make PYTHON=python3.12 setup"
    )


def _java() -> Finding:
    line = _first_line("java", "-version")
    version = re.search(r'"(\d+)', line)
    met = version is not None and int(version[1]) >= 17
    remedy = "install a Java 17 (or later) runtime: apt install openjdk-17-jre-headless, or conda install openjdk"
    return Finding("java", met, line or "not found", remedy)


def _maven() -> Finding:
    line = _first_line("mvn", "--version")
    remedy = "install Maven: apt install maven, or conda install maven"
    fetched = any((paths.BUILD / "kafka" / "libs").glob("kafka_2.13-*.jar"))
    found = line or ("not needed, Kafka's jars are there" if fetched else "not found")
    return Finding("maven", bool(line) or fetched, found, remedy)


def _mongodb() -> Finding:
    remedy = "install mongod (conda install mongodb), or Go to build FerretDB (apt install golang), or set MONGODB_URI"
    if os.environ.get("MONGODB_URI"):
        return Finding("mongodb", True, "MONGODB_URI is set", remedy)
    if line := _first_line("mongod", "--version"):
        return Finding("mongodb", True, f"mongod: {line}", remedy)
    if line := _first_line("go", "version"):
        return Finding("mongodb", True, f"no mongod; FerretDB stands in, built by {line}", remedy)
    return Finding("mongodb", (paths.BUILD / "ferretdb").is_file(), "neither mongod nor Go", remedy)


def _kubectl() -> Finding:
    line = _first_line("kubectl", "version", "--client")
    remedy = "only for backend kubernetes: install kubectl"
    return Finding("kubectl", bool(line), line or "not found", remedy, required=False)


CHECKS: dict[str, Callable[[], Finding]] = {
    "python": _python,
    "java": _java,
    "maven": _maven,
    "mongodb": _mongodb,
    "kubectl": _kubectl,
}
GROUPS = {"kafka": ("java", "maven"), "mongodb": ("mongodb",), "all": tuple(CHECKS)}


def findings(group: str = "all") -> list[Finding]:
    """Look for the prerequisites of `group` (a key of `GROUPS`)."""
    return [CHECKS[name]() for name in GROUPS[group]]
