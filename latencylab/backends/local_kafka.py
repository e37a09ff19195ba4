"""How this machine runs Apache Kafka: one KRaft node on loopback ports, from the jars that Maven fetched.

``python -m latencylab.backends.local_kafka`` writes the archives of loaded classes (JEP 350) that make each later start
take less than two thirds of the processor time; without them, or with other jars or another Java, it starts as ever.
"""

import base64
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final

from latencylab import paths
from latencylab.backends.backend import BackendError
from latencylab.backends.processes import accepts, free_port

LIBS: Final = paths.BUILD / "kafka" / "libs"
_ARCHIVES: Final = paths.BUILD / "kafka" / "archives"
_HEAP: Final = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC")
# The optimising compiler would work through the first minutes of a broker that lives for minutes, on the processors
# that are measured: a start takes 1.8 CPU seconds without it, 3.1 with it.
_COMPILER: Final = ("-XX:TieredStopAtLevel=1",)
_ARCHIVE: Final = ("-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off")
_JVM: Final = (*_HEAP, *_COMPILER, *_ARCHIVE)
_FORMAT: Final = "kafka.tools.StorageTool"
_BROKER: Final = "kafka.Kafka"
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 60.0


def write_properties(folder: Path, port: int, controller_port: int) -> Path:
    """Make `folder`, with the services' ``server.properties`` completed for these ports and for data beside it."""
    listeners = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": str(folder / "data"),
    }
    template = (paths.SERVICES / "kafka" / "server.properties").read_text()
    kept = [line for line in template.splitlines() if line.split("=")[0] not in listeners]
    folder.mkdir()
    properties = folder / "server.properties"
    properties.write_text("\n".join(kept + [f"{key}={value}" for key, value in listeners.items()]) + "\n")
    return properties


def format_and_start(properties: Path) -> list[str]:
    """The command that formats the data folder and becomes the broker. Raises `BackendError` without Java or jars."""
    commands = [_format(properties, "SharedArchiveFile"), _start(properties, "SharedArchiveFile")]
    quoted = " && exec ".join(" ".join(f"'{word}'" for word in command) for command in commands)
    return ["/bin/sh", "-c", quoted]


def _format(properties: Path, archive_option: str) -> list[str]:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # One argument with "=": of 64 ids one begins with a dash, and would be taken for an option.
    return [*_java(_FORMAT, archive_option), "format", f"--cluster-id={cluster_id}", "--config", str(properties)]


def _start(properties: Path, archive_option: str) -> list[str]:
    return [*_java(_BROKER, archive_option), str(properties)]


def _java(program: str, archive_option: str) -> list[str]:
    java = shutil.which("java")
    if java is None or not any(LIBS.glob("*.jar")):
        raise BackendError("Kafka is not installed: run  make setup  (latencylab doctor says what is missing)")
    archive = _ARCHIVES / f"{program}.jsa"
    used = [f"-XX:{archive_option}={archive}"] if archive.exists() or archive_option == "ArchiveClassesAtExit" else []
    log4j = paths.SERVICES / "kafka" / "log4j2.properties"
    return [java, *_JVM, *used, f"-Dlog4j2.configurationFile={log4j}", "-cp", str(LIBS / "*"), program]


def write_archives() -> None:
    """Run both programs once, each leaving its archive when it ends. Raises `BackendError` when the broker does not."""
    _ARCHIVES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        port = free_port()
        properties = write_properties(Path(temporary) / "kafka", port, free_port())
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(_format(properties, "ArchiveClassesAtExit"), check=True, **quiet)  # type: ignore[call-overload]
        broker = subprocess.Popen(_start(properties, "ArchiveClassesAtExit"), **quiet)  # type: ignore[call-overload]
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not accepts(port):
            if broker.poll() is not None or time.monotonic() > deadline:
                broker.kill()
                raise BackendError(
                    f"Kafka did not start within {_START_TIMEOUT_S:g} s; java -version must be 17 or later"
                )
            time.sleep(0.1)
        broker.terminate()
        broker.wait(_STOP_TIMEOUT_S)


if __name__ == "__main__":
    write_archives()
