"""Gives up uid 0, then becomes another program: PostgreSQL refuses to run as root.

Run by path, `python -I -S _as_unprivileged.py MODE UID GID FOLDER PROGRAM ARGUMENT…`, never imported by the package: it
must start fast and needs nothing outside the standard library. MODE is

- `namespace`: enter a user namespace in which the caller is called UID:GID. Outside it the caller stays who it was, so
  files only it may read (a project under /root) remain readable.
- `drop`: really become UID:GID.

FOLDER becomes the current folder, as the new identity: a folder it cannot reach fails here, before PROGRAM starts.
"""

import ctypes
import os
import sys

CLONE_NEWUSER = 0x10000000
CANNOT = 71  # EX_OSERR of sysexits.h; no PostgreSQL program ends with it


def enter_namespace(uid: int, gid: int) -> None:
    """Make the current process `uid`:`gid` inside a new user namespace, unchanged outside, where that is allowed."""
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
    # From here on nothing is imported, as `open` would do to encode text: the new identity may not be able to read
    # Python.
    maps = {"setgroups": "deny", "gid_map": f"{gid} {outside_gid} 1", "uid_map": f"{uid} {outside_uid} 1"}
    for name, text in maps.items():
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, text.encode())
        os.close(descriptor)


def drop(uid: int, gid: int) -> None:
    """Become `uid`:`gid` with no supplementary groups."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def main(arguments: list[str]) -> None:
    mode, uid, gid, folder, *command = arguments
    try:
        {"namespace": enter_namespace, "drop": drop}[mode](int(uid), int(gid))
        os.chdir(folder)
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{mode}: {error}\n".encode())
        sys.exit(CANNOT)


if __name__ == "__main__":
    main(sys.argv[1:])
