"""Tests of text files that several processes edit: the lock of an editor, and replacement as a whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from ema_assets.config.shared_files import locked, replace_text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "notes.toml"
    found.write_text("old")
    return found


@pytest.mark.parametrize("what", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_text_and_names_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some other file")

    monkeypatch.setattr(*((os, "fsync", refuse) if what == "fsync" else (Path, "replace", refuse)))
    with pytest.raises(OSError, match="No space left on device") as caught:
        replace_text(path, "new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_text_is_synced_to_disk_before_it_replaces_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def look(descriptor: int) -> None:
        assert path.read_text() == "old"
        (draft,) = (each for each in path.parent.iterdir() if each != path)
        assert os.fstat(descriptor).st_ino == draft.stat().st_ino
        written.append(draft.read_text())

    monkeypatch.setattr(os, "fsync", look)
    replace_text(path, "new")
    assert (written, path.read_text()) == (["new"], "new")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_of_another_user_keeps_its_owner_and_permissions(path: Path) -> None:
    os.chown(path, 54_321, 54_322)
    path.chmod(0o664)
    replace_text(path, "new")
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (54_321, 54_322, 0o664)


def test_the_lock_is_next_to_the_target_of_a_link_and_exists_only_during_an_edit(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.toml"
    link.parent.mkdir()
    link.symlink_to(path)
    with locked(link) as target:
        assert target == path
        assert path.with_name(".notes.toml.lock").exists()
        assert list(link.parent.iterdir()) == [link]
    assert sorted(tmp_path.iterdir()) == [link.parent, path]


def test_the_lock_is_released_when_an_edit_fails(path: Path) -> None:
    with pytest.raises(LookupError), locked(path):
        raise LookupError("a mistake in the edit")
    with locked(path):
        pass
    assert list(path.parent.iterdir()) == [path]


def test_the_error_of_a_lock_in_a_missing_folder_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, locked(tmp_path / "none" / "notes.toml"):
        raise AssertionError("locked nothing")
    assert caught.value.filename == str(tmp_path / "none" / "notes.toml")
