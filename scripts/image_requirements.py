"""Write services/*/requirements.txt: what each image installs, at the versions of requirements.lock.

Each services/NAME/requirements.in lists what the code imports; what those need in turn is read from the packages
installed in .venv, versions and hashes from the lock. ``--check`` only says which files are out of date.
"""

import argparse
import re
import sys
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
IMAGE_ENVIRONMENT = {
    "python_version": "3.11",
    "python_full_version": "3.11.13",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}
_HEADER = "# Made by scripts/image_requirements.py from requirements.in beside it and requirements.lock.\n"


def locked(lock: str) -> dict[str, str]:
    """The lock's entries that apply in an image: {canonical name: the entry's lines with its hashes}."""
    entries: dict[str, str] = {}
    for entry in re.findall(r"^\S.*(?:\n[ \t].*)*", lock, flags=re.MULTILINE):
        if entry.startswith(("#", "-")):
            continue
        requirement = Requirement(entry.splitlines()[0].rstrip(" \\"))
        if requirement.marker is None or requirement.marker.evaluate(IMAGE_ENVIRONMENT):
            pinned = entry.split(" \\\n", 1)[1] if " \\\n" in entry else ""
            hashes = [line for line in pinned.splitlines() if "--hash" in line]
            entries[canonicalize_name(requirement.name)] = " \\\n".join(
                [f"{requirement.name}{requirement.specifier}", *(line.rstrip(" \\") for line in hashes)]
            )
    return entries


def closure(roots: list[str]) -> set[str]:
    """Canonical names of `roots` and of all that they need, by the metadata of the packages installed here."""
    wanted: set[tuple[str, str]] = set()
    queue = [Requirement(root) for root in roots]
    while queue:
        requirement = queue.pop()
        for extra in ("", *requirement.extras):
            key = (canonicalize_name(requirement.name), extra)
            if key in wanted:
                continue
            wanted.add(key)
            for line in requires(requirement.name) or []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({**IMAGE_ENVIRONMENT, "extra": extra}):
                    queue.append(needed)
    return {name for name, _ in wanted}


def requirements(image: Path, entries: dict[str, str]) -> str:
    """The text of one image's requirements.txt. Raises `SystemExit` naming a package that the lock lacks."""
    roots = [line for line in (image / "requirements.in").read_text().split("\n") if line and not line.startswith("#")]
    names = closure(roots)
    missing = sorted(names - set(entries))
    if missing:
        sys.exit(f"{image / 'requirements.in'}: requirements.lock has no {', '.join(missing)}; lock them first")
    return _HEADER + "\n".join(entries[name] for name in sorted(names)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    args = parser.parse_args()
    entries = locked((ROOT / "requirements.lock").read_text())
    stale = []
    for source in sorted(ROOT.glob("services/*/requirements.in")):
        target = source.with_name("requirements.txt")
        text = requirements(source.parent, entries)
        if not target.exists() or target.read_text() != text:
            stale.append(str(target.relative_to(ROOT)))
            if not args.check:
                target.write_text(text)
    if args.check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run  python scripts/image_requirements.py")


if __name__ == "__main__":
    main()
