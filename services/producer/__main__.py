"""Run one process of cameras: ``python -m services.producer``."""

import logging
import os
import sys

from services.producer.main import main

status = main(sys.argv[1:])
logging.shutdown()
sys.stdout.flush()
# The interpreter is not taken down: that takes tenths of a second of processor while the last frames are on their way.
os._exit(status)
