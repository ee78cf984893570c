"""A settings file as text: a named file is trusted; a found file must be owned by the user or root.

Anyone who can write the working directory, or the repository it was cloned from, can put a `.env` there.  So a found
file counts only if it, and the target of a link, is a regular file that the user or root owns and no other user may
write.
"""

from __future__ import annotations

import contextlib
import os
import stat

from miros_cache_net import limits
from miros_cache_net.errors import SettingsError


def read_named(path: str, hint: str = "") -> str:
    """The text of a file that the user has named.  Raises `SettingsError`, also for a pipe, which would hang."""
    try:
        status, data = _read(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {why_unread(error)}{hint}") from None
    if not stat.S_ISREG(status.st_mode) and path != os.devnull:
        raise SettingsError(f"{path} cannot be read: it is not a regular file{hint}")
    return _decoded(path, data, hint)


def read_found(path: str) -> tuple[str, str] | None:
    """The text of a file in the working directory, and why it must not count ("" if it may).

    None if there is no file, if it is not a regular file, or if another user owns it and it is not readable.  Raises
    `SettingsError` if the user's own file cannot be read.
    """
    try:
        link = os.lstat(path)
        status, data = _read(path)
    except OSError as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError) and _is_own(path):
            raise SettingsError(f"{path} in the working directory cannot be read: {why_unread(error)}") from None
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    if distrust := _distrust(link, "") or _distrust(status, os.path.realpath(path)):
        return data.decode("utf-8-sig", "replace"), distrust
    return _decoded(f"{path} in the working directory", data, ""), ""


def why_unread(error: Exception) -> str:
    """The reason in a few words."""
    return (isinstance(error, OSError) and error.strerror) or "it is not UTF-8"


def _read(path: str) -> tuple[os.stat_result, bytes]:
    """The file's status, and the contents of a regular file, up to one byte beyond the cap."""
    # O_NONBLOCK: a pipe without a writer would block.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return status, b""
        with open(descriptor, "rb", closefd=False) as file:
            return status, file.read(limits.SETTINGS_FILE_BYTES + 1)
    finally:
        os.close(descriptor)


def _decoded(path: str, data: bytes, hint: str) -> str:
    if len(data) > limits.SETTINGS_FILE_BYTES:
        raise SettingsError(f"{path} is larger than {limits.SETTINGS_FILE_BYTES} bytes: is it the right file?{hint}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{path} cannot be read: it is not UTF-8{hint}") from None


def _is_own(path: str) -> bool:
    with contextlib.suppress(OSError):
        return os.lstat(path).st_uid == os.geteuid()
    return False


def _distrust(status: os.stat_result, path: str) -> str:
    """Why a file does not belong to the user or root alone; of a link only the owner counts, its mode means nothing."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to {_user_name(status.st_uid)}, who is neither you nor root"
    if stat.S_ISLNK(status.st_mode):
        return ""
    others = status.st_mode & stat.S_IWOTH
    group = status.st_mode & stat.S_IWGRP and not _is_users_own_group(status.st_gid)
    if others or group:
        return f"of {_user_name(status.st_uid)} is writable by {'everybody' if others else 'its group'} ({path})"
    return ""


def _is_users_own_group(gid: int) -> bool:
    """A user's private group, with the user's name and no other member: umask 002 is usual with those."""
    import grp
    import pwd

    for uid in (os.geteuid(), 0):
        with contextlib.suppress(KeyError):
            user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
            if user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}:
                return True
    return False


def _user_name(uid: int) -> str:
    import pwd

    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"user {uid}"
