"""Gates on the Dockerfiles and on what their images install; nothing is built."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "services"
DOCKERFILES = sorted(SERVICES.glob("**/Dockerfile"))
PYTHON_IMAGES = sorted(path.parent for path in SERVICES.glob("*/requirements.in"))
TAG = re.compile(r"docker\.io/library/[a-z-]+:\S*\d+\.\d+\S*")


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    text = dockerfile.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]  # type: ignore[misc]


@pytest.fixture(params=DOCKERFILES, ids=[str(path.parent.relative_to(SERVICES)) for path in DOCKERFILES])
def dockerfile(request) -> Path:
    return request.param


@pytest.fixture(params=PYTHON_IMAGES, ids=[path.name for path in PYTHON_IMAGES])
def python_image(request) -> Path:
    return request.param


def final_stage(dockerfile: Path) -> list[tuple[str, str]]:
    found = instructions(dockerfile)
    last = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def test_every_service_has_an_image():
    with_image = {path.parent.relative_to(SERVICES).parts[0] for path in DOCKERFILES}
    assert with_image == {path.name for path in SERVICES.iterdir() if path.is_dir()} - {"contract", "__pycache__"}


def test_bases_are_pinned_and_named_in_full(dockerfile):
    bases = [argument.split()[0] for name, argument in instructions(dockerfile) if name == "FROM"]
    assert all(TAG.fullmatch(base) for base in bases), bases


def test_the_process_is_not_root_and_is_the_only_one(dockerfile):
    stage = final_stage(dockerfile)
    (user,) = [argument for name, argument in stage if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "numeric, or runAsNonRoot can't check it"
    (command,) = [argument for name, argument in stage if name == "CMD"]
    assert command.startswith("["), "a shell form would not pass SIGTERM on"
    assert stage[-1][0] == "CMD"


def test_nothing_is_compiled_or_installed_in_the_final_stage(dockerfile):
    assert not [argument for name, argument in final_stage(dockerfile) if name == "RUN"]


def test_kafkas_start_script_becomes_the_broker():
    last = (SERVICES / "kafka" / "start.sh").read_text().replace("\\\n", " ").strip().splitlines()[-1]
    assert last.startswith("exec java "), "or SIGTERM would reach the shell only"


def test_kafka_takes_the_jars_and_properties_of_the_local_backend():
    text = (SERVICES / "kafka" / "Dockerfile").read_text()
    assert "kafka/pom.xml" in text
    assert "kafka/server.properties" in text


def test_requirements_are_what_the_lock_says():
    checked = subprocess.run(
        [sys.executable, ROOT / "scripts" / "image_requirements.py", "--check"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_what_the_code_imports_is_required(python_image):
    required = {
        canonicalize_name(line)
        for line in (python_image / "requirements.in").read_text().splitlines()
        if line and not line.startswith("#")
    }
    distributions = packages_distributions()
    needed: dict[str, str] = {}
    for module in _modules(python_image):
        for imported in _imports(module):
            if imported not in sys.stdlib_module_names and imported != "services":
                needed[imported] = module.name
    missing = {
        f"{module} imports {imported}"
        for imported, module in needed.items()
        if not {canonicalize_name(name) for name in distributions[imported]} & required
    }
    assert not missing


OPTIONAL = {"onnxruntime", "tf2onnx"}
"""Behind a setting; the image is built without it."""


def _modules(image: Path) -> list[Path]:
    """The image's own modules and those of the contract that they import, directly or not."""
    queue = list(image.rglob("*.py"))
    seen: set[Path] = set()
    while queue:
        module = queue.pop()
        if module in seen:
            continue
        seen.add(module)
        for name in re.findall(r"services\.contract(?:\.| import )(\w+)", module.read_text()):
            if (path := SERVICES / "contract" / f"{name}.py").exists():
                queue.append(path)
    return sorted(seen)


def _imports(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found - OPTIONAL
