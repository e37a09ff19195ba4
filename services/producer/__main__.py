"""Run one process of cameras: ``python -m services.producer``."""

import sys

from services.producer.main import main

sys.exit(main(sys.argv[1:]))
