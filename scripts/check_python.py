"""Say in one line when this Python can't carry the project, before anything is installed with it."""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 12):
    found = sys.version.split()[0]
    sys.exit(f"Python 3.11 or 3.12 is needed, {sys.executable} is {found}: run  make PYTHON=python3.12 ...")
