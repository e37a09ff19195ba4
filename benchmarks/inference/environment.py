"""The other projects' servers' environment, .build/bench-venv, from the pinned requirements.txt beside this file."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / ".build/bench-venv"
_REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")


def ensure() -> Path:
    """Install it unless it is there as required; return its interpreter."""
    stamp = FOLDER / f"installed-{hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    python = FOLDER / "bin/python"
    if not stamp.exists():
        print("installing BentoML, LitServe and Ray Serve into .build/bench-venv", flush=True)
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(FOLDER)], check=True)
        install = [*uv, "pip", "install", "--quiet", "--require-hashes", "--python", str(python)]
        subprocess.run([*install, "-r", str(_REQUIREMENTS)], check=True)
        stamp.touch()
    return python


if __name__ == "__main__":
    print(ensure())
