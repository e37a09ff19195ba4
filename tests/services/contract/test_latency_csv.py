import csv
import io
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.latency_csv import INFERENCE_COLUMNS, STORAGE_COLUMNS, LatencyCsv
from services.contract.message import FrameHeaders
from services.contract.stamps import INFERENCE_STAMPS, SERVER_DURATIONS, STORAGE_STAMPS


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def row(**changes):
    return {column: f"{column}-value" for column in STORAGE_COLUMNS} | changes


def test_the_columns_hold_every_stamp_and_header_once():
    for columns, stamps in ((INFERENCE_COLUMNS, INFERENCE_STAMPS), (STORAGE_COLUMNS, STORAGE_STAMPS)):
        assert len(set(columns)) == len(columns)
        assert set(stamps) <= set(columns)
        assert set(FrameHeaders.__dataclass_fields__) <= set(columns)
    assert set(SERVER_DURATIONS) <= set(INFERENCE_COLUMNS)


def test_a_new_file_has_its_header_before_the_first_row(tmp_path):
    LatencyCsv(tmp_path / "deep" / "file.csv", STORAGE_COLUMNS)
    assert (tmp_path / "deep" / "file.csv").read_bytes() == f"{','.join(STORAGE_COLUMNS)}\r\n".encode()


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.lists(texts, max_size=20))
def test_rows_come_back_as_they_were_written(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("csv") / "file.csv"
    file = LatencyCsv(path, STORAGE_COLUMNS)
    for label in labels:
        file.write(row(truth=label))
    file.close()
    assert file.rows == len(labels)
    assert read(path) == [row(truth=label) for label in labels]


def test_flush_hands_over_every_row(tmp_path):
    file = LatencyCsv(tmp_path / "file.csv", STORAGE_COLUMNS, flush_every_s=3600)
    file.write(row())
    file.write(row())
    file.flush()
    assert len(read(file.path)) == 2


def test_a_row_is_handed_over_once_the_time_has_come(tmp_path):
    file = LatencyCsv(tmp_path / "file.csv", STORAGE_COLUMNS, flush_every_s=0)
    file.write(row())
    assert len(read(file.path)) == 1


def test_flushed_rows_outlive_a_killed_process_and_only_whole_lines_are_left(tmp_path):
    path = tmp_path / "file.csv"
    code = (
        "import os, pathlib, signal, sys\n"
        "from services.contract.latency_csv import LatencyCsv\n"
        "file = LatencyCsv(pathlib.Path(sys.argv[1]), ('seq', 'label'), flush_every_s=3600)\n"
        "for seq in range(5000):\n"
        "    file.write({'seq': seq, 'label': 'x' * 50})\n"
        "    if seq == 99: file.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert path.read_bytes().endswith(b"\r\n")
    assert [int(line["seq"]) for line in read(path)] == list(range(100))


def test_a_file_that_exists_is_never_written_into(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("another's")
    with pytest.raises(FileExistsError):
        LatencyCsv(path, STORAGE_COLUMNS)
    assert path.read_text() == "another's"


def test_a_column_that_is_not_in_the_contract_is_refused(tmp_path):
    file = LatencyCsv(tmp_path / "file.csv", STORAGE_COLUMNS)
    with pytest.raises(ValueError, match="surprise"):
        file.write(row(surprise=1))


def test_closing_twice_is_fine(tmp_path):
    file = LatencyCsv(tmp_path / "file.csv", STORAGE_COLUMNS)
    file.write(row())
    file.close()
    file.close()
    assert len(read(file.path)) == 1
