"""Tests of the sentences for errors of the operating system. They have a hint about EMA_HOME only where it helps."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ema_assets.cli import failures
from ema_assets_tests.cli.conftest import Refused, Run
from ema_assets_tests.cli.shell import unprivileged

HINT = "; EMA_HOME must be a folder that you may write to"


def refusal(number: int, *names: str) -> OSError:
    """Return the error that Python raises for this number and these files, at most two."""
    first, second = [*names, None, None][:2]
    return OSError(number, os.strerror(number), first, None, second)


def sentence_in(reachable: Path, act: Callable[[], object]) -> str:
    """Return the sentence for the error that `act` raises, with `…` instead of the folder."""
    with pytest.raises(OSError) as caught:
        act()
    found = failures.sentence(caught.value)
    assert found is not None
    return found.replace(str(reachable), "…")


def test_a_home_without_write_permission_is_reported_with_a_hint(reachable: Path) -> None:
    home = reachable / "home"
    (home / "watchlist.toml").write_text("")
    (home / "watchlist.toml").chmod(0o444)
    home.chmod(0o555)
    with unprivileged():
        assert sentence_in(reachable, (home / "new").mkdir) == f"…/home/new: Permission denied{HINT}"
        opened = sentence_in(reachable, lambda: (home / "watchlist.toml").open("a"))
        assert opened == f"…/home/watchlist.toml: Permission denied{HINT}"
        moved = sentence_in(reachable, lambda: (home / "watchlist.toml").rename(home / "other"))
        assert moved == f"…/home/watchlist.toml to …/home/other: Permission denied{HINT}"
        # Nothing was written, so there is no hint.
        missing = sentence_in(reachable, (home / "none").read_text)
        assert missing == "…/home/none: No such file or directory"


def test_a_folder_above_the_home_that_cannot_be_created_is_reported_with_a_hint(
    reachable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reachable.chmod(0o555)
    monkeypatch.setenv("EMA_HOME", str(reachable / "a" / "b"))
    with unprivileged():
        assert sentence_in(reachable, (reachable / "a").mkdir) == f"…/a: Permission denied{HINT}"


def test_a_file_of_the_home_that_is_writable_but_not_readable_has_no_hint(reachable: Path) -> None:
    secret = reachable / "home" / "secret"
    secret.write_text("")
    secret.chmod(0o222)
    with unprivileged():
        assert sentence_in(reachable, secret.read_text) == "…/home/secret: Permission denied"


def test_a_path_outside_the_home_has_no_hint(reachable: Path) -> None:
    reachable.chmod(0o555)
    with unprivileged():
        assert sentence_in(reachable, (reachable / "beside").mkdir) == "…/beside: Permission denied"
    assert sentence_in(reachable, (reachable / "none").read_text) == "…/none: No such file or directory"


@pytest.mark.parametrize(
    ("number", "names", "sentence"),
    [
        (errno.EROFS, ["HOME/up.lock"], f"HOME/up.lock: Read-only file system{HINT}"),
        (errno.EROFS, ["/elsewhere/up.lock"], "/elsewhere/up.lock: Read-only file system"),
        # The home exists and is writable, so the cause is something else.
        (errno.ENOENT, ["HOME/postgres/PG_VERSION"], "HOME/postgres/PG_VERSION: No such file or directory"),
        (errno.ENOTDIR, ["HOME/file/x"], "HOME/file/x: Not a directory"),
        (errno.ENOSPC, ["HOME/watchlist.toml"], "HOME/watchlist.toml: No space left on device"),
        (errno.EMFILE, ["HOME/up.lock"], "HOME/up.lock: Too many open files"),
        (errno.EACCES, ["/a", "/b"], "/a to /b: Permission denied"),
        # Without a path it is unknown whether the error concerns EMA_HOME.
        (errno.EPERM, [], "Operation not permitted"),
        (errno.ENOSPC, [], "No space left on device"),
    ],
)
def test_an_error_of_the_system_is_reported_in_its_own_words(
    reachable: Path, number: int, names: list[str], sentence: str
) -> None:
    home = str(reachable / "home")
    error = refusal(number, *(name.replace("HOME/", f"{home}/") for name in names))
    assert failures.sentence(error) == sentence.replace("HOME/", f"{home}/")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (OSError("only words"), "only words"),
        (OSError(errno.EBADF, "Bad file descriptor", 5), "Bad file descriptor"),
        (PermissionError(errno.EACCES, "Permission denied", b"/in/bytes"), "/in/bytes: Permission denied"),
    ],
)
def test_an_unusual_error_of_the_system_has_a_sentence_as_well(reachable: Path, error: OSError, sentence: str) -> None:
    assert failures.sentence(error) == sentence


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EROFS])
def test_an_error_in_a_missing_home_has_a_hint_unless_the_disk_is_full(
    reachable: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("EMA_HOME", str(reachable / "none"))
    path = str(reachable / "none" / "postgres")
    assert failures.sentence(refusal(number, path)) == f"{path}: {os.strerror(number)}{HINT}"
    full = refusal(errno.ENOSPC, path)
    assert failures.sentence(full) == f"{path}: No space left on device"


def test_a_path_is_in_the_home_even_if_ema_home_is_a_link(reachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (reachable / "link").symlink_to(reachable / "home")
    monkeypatch.setenv("EMA_HOME", str(reachable / "link"))
    found = failures.sentence(refusal(errno.EROFS, str(reachable / "home" / "watchlist.toml")))
    assert found is not None
    assert found.endswith(HINT)


def test_a_deleted_current_folder_does_not_hide_the_error(reachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (reachable / "gone").mkdir()
    monkeypatch.chdir(reachable / "gone")
    (reachable / "gone").rmdir()
    monkeypatch.delenv("EMA_HOME")
    assert failures.sentence(refusal(errno.ENOENT, ".ema")) == ".ema: No such file or directory"


@pytest.mark.parametrize("error", [LookupError("a bug"), BrokenPipeError(errno.EPIPE, "Broken pipe")])
def test_a_bug_and_a_broken_pipe_have_no_sentence(error: Exception) -> None:
    assert failures.sentence(error) is None


@pytest.mark.parametrize("command", [("up",), ("migrate",), ("refresh",), ("symbols", "add", "NVDA")], ids=" ".join)
@pytest.mark.parametrize("where", ["/proc/ema-assets", "below a file"])
def test_a_home_that_cannot_be_created_is_reported_with_a_hint(
    refused: Refused, tmp_path: Path, command: tuple[str, ...], where: str
) -> None:
    (tmp_path / "file").touch()
    folder = where if where.startswith("/") else str(tmp_path / "file" / "home")
    sentence = refused(*command, EMA_HOME=folder, EMA_SANDBOX_URL="http://127.0.0.1:9")
    assert folder in sentence
    assert sentence.endswith(HINT)


def test_a_home_without_write_permission_is_reported_with_the_path_of_its_watchlist(
    run: Run, refused: Refused, reachable: Path
) -> None:
    assert run("symbols", "add", "NVDA").exit_code == 0
    # The file is writable, but an edit replaces it with another file.
    (reachable / "home" / "watchlist.toml").chmod(0o666)
    (reachable / "home").chmod(0o555)
    with unprivileged():
        sentence = refused("symbols", "add", "NOVO-B.CO")
    assert sentence == f"{reachable / 'home' / 'watchlist.toml'}: Permission denied{HINT}"


def test_a_full_disk_is_reported_and_leaves_the_watchlist_unchanged(
    run: Run, refused: Refused, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = (home / "watchlist.toml").read_text()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert refused("symbols", "add", "NVDA") == f"{home / 'watchlist.toml'}: No space left on device"
    assert [each.name for each in home.iterdir()] == ["watchlist.toml"]
    assert (home / "watchlist.toml").read_text() == before
    assert run("symbols", "add", "NVDA").exit_code == 0
