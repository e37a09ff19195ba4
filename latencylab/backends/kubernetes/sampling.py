"""CPU, memory and throttling of each pod, read from its own cgroup once a second through one open exec stream."""

import contextlib
import threading
from typing import Any, Final

from websocket import WebSocketException

from latencylab.backends.kubernetes import pods
from latencylab.backends.kubernetes.cluster import Cluster, ExecError
from latencylab.backends.kubernetes.pods import Pod

# One line per sample: time in ns, then NAME VALUE pairs. cgroup v2 first; of v1 the controllers' own folders. A shell
# that can't write any more (the stream was closed) ends.
_SCRIPT: Final = r"""
cd /sys/fs/cgroup
while :; do
  if [ -r cgroup.controllers ]; then
    values=$(grep -hE '^(usage_usec|throttled_usec|anon) ' cpu.stat memory.stat)
  else
    values="usage_ns $(cat cpuacct/cpuacct.usage) $(grep -h '^throttled_time ' cpu/cpu.stat)
      $(grep -h '^total_rss ' memory/memory.stat)"
  fi
  echo "$(date +%s%N)" $values || exit
  sleep 1
done
"""
_PER_SECOND: Final = {"usage_usec": 1e6, "usage_ns": 1e9, "throttled_usec": 1e6, "throttled_time": 1e9}


def parse(line: str) -> dict[str, Any] | None:
    """The fields of `latencylab.backends.resources.SCHEMA` in one line of the script; None if it is not whole."""
    words = line.split()
    if len(words) < 5 or len(words) % 2 == 0:
        return None
    values = dict(zip(words[1::2], words[2::2], strict=True))
    seconds = {name: int(values[name]) / scale for name, scale in _PER_SECOND.items() if name in values}
    used = [seconds[name] for name in ("usage_usec", "usage_ns") if name in seconds]
    throttled = [seconds[name] for name in ("throttled_usec", "throttled_time") if name in seconds]
    memory = values.get("anon", values.get("total_rss"))
    if not used or memory is None:
        return None
    return {
        "time_ns": int(words[0]),
        "cpu_s": used[0],
        "rss_bytes": int(memory),
        "throttled_s": throttled[0] if throttled else None,
    }


class PodSampler:
    """Samples every pod it is shown, until it is stopped."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._seen: set[str] = set()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self.samples: list[dict[str, object]] = []

    def see(self, pod: Pod) -> None:
        """Sample `pod` from now on if it runs and is not sampled yet."""
        uid = pod["metadata"]["uid"]
        if uid in self._seen or self._stopped.is_set() or pods.phase(pod) != "Running" or pods.leaving(pod):
            return
        self._seen.add(uid)
        thread = threading.Thread(target=self._follow, args=(pod,), name=f"resources of {pods.name(pod)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """End all streams."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def _follow(self, pod: Pod) -> None:
        names = {"component": pods.component(pod), "instance": pods.name(pod)}
        try:
            channel = self._cluster.open(pods.name(pod), pod["spec"]["containers"][0]["name"], ["sh", "-c", _SCRIPT])
        except ExecError:
            return  # it ended before it could be looked at; its absence shows in resources.parquet
        rest = ""
        with contextlib.closing(channel), contextlib.suppress(WebSocketException, OSError):
            while channel.is_open() and not self._stopped.is_set():
                channel.update(timeout=0.5)
                *lines, rest = (rest + channel.read_channel(1)).split("\n")
                self.samples += [names | sample for line in lines if (sample := parse(line))]
