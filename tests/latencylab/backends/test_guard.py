import subprocess
import sys

import psutil

PARENT = """
import subprocess, sys, time
from latencylab.backends.guard import Guard
guard = Guard()
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
children = [subprocess.Popen(sleep, start_new_session=True) for _ in "ab"]
guard.watch(children[0].pid)
guard.watch(children[1].pid)
guard.forget(children[1].pid)
print(children[0].pid, children[1].pid, flush=True)
time.sleep(600)
"""


def test_children_end_when_their_parent_is_killed_and_forgotten_ones_are_left_alone():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    watched, forgotten = (psutil.Process(int(pid)) for pid in parent.stdout.readline().split())
    try:
        parent.kill()
        parent.wait()
        watched.wait(60)
        assert forgotten.is_running()
    finally:
        parent.stdout.close()
        forgotten.kill()
