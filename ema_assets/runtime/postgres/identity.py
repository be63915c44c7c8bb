"""The identity that the server runs as: PostgreSQL refuses to run as root, and initdb needs a name for its uid."""

import os
import pwd
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ema_assets.model.errors import EmbeddedServerError
from ema_assets.runtime.postgres.server_files import INSTEAD, Files


def environment() -> dict[str, str]:
    """Return all that the server needs.

    The caller's environment may hold secrets, and PG… variables with side effects.
    """
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity that the server runs as: `plain` is the user of this process."""

    mode: Literal["plain", "namespace", "drop"]
    uid: int
    gid: int

    def command(self, files: Files, *argv: str | Path) -> list[str]:
        """Return `argv`, changed to run as this identity."""
        words = [str(word) for word in argv]
        if self.mode == "plain":
            return words
        launcher = Path(__file__).with_name("_as_unprivileged.py")
        options = [self.mode, str(self.uid), str(self.gid), str(files.folder)]
        return [sys.executable, "-I", "-S", str(launcher), *options, *words]

    def run(self, files: Files, *argv: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a program of the wheel as this identity, and wait for its end."""
        return subprocess.run(  # noqa: S603
            self.command(files, *argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(),
            cwd=files.folder,
            start_new_session=True,
            check=False,
        )

    def is_usable(self, files: Files, programs: Path) -> str | None:
        """Return None when this identity can run PostgreSQL in the folder, otherwise why it cannot."""
        try:
            if self.mode == "drop" and files.folder.stat().st_uid != self.uid:
                files.folder.chmod(0o711)
            result = self.run(files, programs / "postgres", "--version")
        except OSError as error:
            reason = str(error)
        else:
            if result.returncode == 0:
                return None
            reason = result.stderr.strip() or f"exit code {result.returncode}"
        with suppress(OSError):
            files.folder.chmod(0o700)
        return reason

    def give(self, path: Path) -> None:
        """Make `path` and everything below it belong to the uid that the server has outside any namespace."""
        if self.mode != "drop" and os.geteuid() != 0:
            return
        uid, gid = (self.uid, self.gid) if self.mode == "drop" else (os.geteuid(), os.getegid())
        if path.stat().st_uid == uid:
            return
        for parent, folders, names in os.walk(path):
            for name in (*folders, *names):
                os.chown(Path(parent) / name, uid, gid, follow_symlinks=False)
        os.chown(path, uid, gid, follow_symlinks=False)


def choose(files: Files, programs: Path) -> Identity:
    """Return the identity to start the server of this folder: the owner of its data, so that it never changes.

    Raises:
        EmbeddedServerError: when this process is root and no other identity is usable.
    """
    uid, gid = os.geteuid(), os.getegid()
    plain = Identity("plain", uid, gid)
    if uid != 0:
        if _user_name(uid) is not None or files.data.exists():
            return plain
        # initdb needs a name for its uid; a container that runs as an arbitrary uid has none.
        borrowed = _namespace()
        return borrowed if borrowed and borrowed.is_usable(files, programs) is None else plain

    owned = files.data if files.data.exists() else files.folder
    owner = owned.stat()
    candidates = [_owner_of(owner)] if owner.st_uid != 0 else []
    if not (candidates and files.data.exists()):
        candidates += [identity for identity in (_namespace(), *_unprivileged_users(files)) if identity]
    reasons = []
    for candidate in candidates:
        reason = candidate.is_usable(files, programs)
        if reason is None:
            return candidate
        reasons.append(reason)
    raise EmbeddedServerError(
        f"PostgreSQL does not run as root, and no other user can run it in {files.folder} ({'; '.join(reasons)}): run "
        f"ema-assets as a normal user, put EMA_HOME and the virtual environment where other users may read them, "
        f"{INSTEAD}"
    )


def _owner_of(status: os.stat_result) -> Identity:
    """Return the owner of a file, in that user's own group: the folder's group may be root's."""
    try:
        gid = pwd.getpwuid(status.st_uid).pw_gid
    except KeyError:
        gid = status.st_gid
    return Identity("drop", status.st_uid, gid)


def _user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _namespace() -> Identity | None:
    """Return this process under the uid of some named user.

    65534 comes last: the kernel shows it for unmapped users.
    """
    if sys.platform != "linux":
        return None
    users = sorted((user for user in pwd.getpwall() if user.pw_uid != 0), key=lambda user: user.pw_uid == 65534)
    return Identity("namespace", users[0].pw_uid, users[0].pw_gid) if users else None


def _unprivileged_users(files: Files) -> list[Identity]:
    """Return the owner of the nearest parent folder that is not root's, and `nobody`."""
    found = []
    for parent in files.folder.parents:
        owner = parent.stat()
        if owner.st_uid != 0:
            if _user_name(owner.st_uid) is not None:
                found.append(_owner_of(owner))
            break
    with suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        found.append(Identity("drop", nobody.pw_uid, nobody.pw_gid))
    return found
