"""What the local backend must never do."""

from latencylab.backends.local import LocalBackend


def test_giving_up_before_anything_was_prepared_removes_nothing(data_folder, tmp_path, monkeypatch):
    (tmp_path / "kept").touch()
    monkeypatch.chdir(tmp_path)
    LocalBackend().abandon()
    assert (tmp_path / "kept").exists()
