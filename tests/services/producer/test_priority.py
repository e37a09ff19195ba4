import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, os
from services.producer.priority import give_way, take_priority
taken = take_priority()
give_way()
print(json.dumps([taken, os.sched_getscheduler(0), os.nice(0)]))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="only Linux has scheduling policies")
def test_who_took_priority_gives_way_at_the_end():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    taken, policy, nice = json.loads(done.stdout)
    assert taken in ("SCHED_RR", "SCHED_OTHER")  # as this machine lets it
    assert (policy, nice) == (os.SCHED_OTHER, 19)
