"""The commands that run Kafka; that they work is what the integration tests show."""

import re
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from latencylab.backends import local_kafka
from latencylab.backends.backend import BackendError


@pytest.fixture
def properties(tmp_path):
    return local_kafka.write_properties(tmp_path / "kafka", 19092, 19093)


def test_the_services_properties_are_completed_once_each(properties):
    lines = properties.read_text().splitlines()
    keys = [line.split("=")[0] for line in lines if line and not line.startswith("#")]
    assert len(keys) == len(set(keys))
    assert "listeners=PLAINTEXT://127.0.0.1:19092,CONTROLLER://127.0.0.1:19093" in lines
    assert "controller.quorum.voters=1@127.0.0.1:19093" in lines
    assert f"log.dirs={properties.parent / 'data'}" in lines


def test_set_up_has_left_archives_and_they_are_used(properties):
    command = local_kafka.format_and_start(properties)[-1]
    archives = re.findall(r"-XX:SharedArchiveFile=([^']+)", command)
    assert len(archives) == 2
    assert all(Path(archive).stat().st_size > 1_000_000 for archive in archives)


def test_without_archives_it_starts_as_ever(properties, tmp_path, monkeypatch):
    monkeypatch.setattr(local_kafka, "_ARCHIVES", tmp_path / "none")
    command = local_kafka.format_and_start(properties)[-1]
    assert "SharedArchiveFile" not in command
    assert command.index("kafka.tools.StorageTool") < command.index("&& exec") < command.index("kafka.Kafka")


def test_without_java_it_says_what_to_run(properties, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BackendError, match="make setup"):
        local_kafka.format_and_start(properties)


def test_an_id_that_begins_with_a_dash_is_no_option(properties, monkeypatch):
    odd = uuid.UUID(bytes=b"\xf8" + bytes(15))
    monkeypatch.setattr(uuid, "uuid4", lambda: odd)
    command = local_kafka._format(properties, "SharedArchiveFile")
    assert "--cluster-id=-AAAAAAAAAAAAAAAAAAAAA" in command
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
