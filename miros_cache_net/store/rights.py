"""Access rights of new files: whoever may write the directory may use them, whatever the creator and its umask.

A new file takes its rights from the directory (group, group bits, access control list, and the owner if root makes
the file); a replacement takes them from the file it replaces.  An existing file is never given away.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

#: Mode of a document that did not exist before, as for `open`, before the umask.
NEW_FILE_MODE: Final = 0o666
#: The file in which Linux shows a process its umask.
PROCESS_STATUS = "/proc/self/status"
_GROUP_BITS: Final = 0o070
_READ_WRITE: Final = 6

#: Errors of a file system, container or user namespace that cannot set owners, groups, modes or access control lists.
_CANNOT: Final = frozenset(
    (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS)
)

# POSIX access control lists as Linux stores them: the version, then tag, permission bits and id of each entry
_ACCESS_LIST: Final = "system.posix_acl_access"
_DEFAULT_LIST: Final = "system.posix_acl_default"
_VERSION: Final = struct.pack("<I", 2)
_ENTRY: Final = struct.Struct("<HHI")
_NOBODY: Final = 0xFFFFFFFF
_OWNER, _GROUP, _MASK, _OTHERS = (0x01, _NOBODY), (0x04, _NOBODY), (0x10, _NOBODY), (0x20, _NOBODY)
_NAMED_USER, _NAMED_GROUP = 0x02, 0x08
#: (tag, id) -> permission bits; if there are named entries, `_MASK` bounds them and the group's bits.
_Permissions = dict[tuple[int, int], int]


class Rights(NamedTuple):
    """The access rights for a new file.

    owner   set only if root makes the file
    group   -1: any
    mode    permission bits
    acl     the access control list in the kernel's format, b"" for none
    closed  only the directory's owner and group can reach its files
    """

    owner: int
    group: int
    mode: int
    acl: bytes = b""
    closed: bool = False

    def give(self, fd: int, without: int = 0) -> int:
        """Apply the rights to the open new file as far as possible here; returns the mode that it may have.

        without  bits that the file must not have yet

        Raises `OSError` for any failure other than that a right cannot be set here.
        """
        mode, status = self.mode, os.fstat(fd)
        permissions = _parsed(self.acl)
        foreign = self.group not in (-1, status.st_gid) and not attempted(os.fchown, fd, -1, self.group)
        if foreign:
            # One group's rights must not go to another group; a named entry, which the owner may add, keeps them.
            permissions = permissions or _of_mode(mode)
            permissions = {**_named(permissions, (_NAMED_GROUP, self.group), permissions[_GROUP]), _GROUP: 0}
        # Also without a list of our own: the list inherited from the directory is not the old file's.
        if (permissions or _list_of(fd, _ACCESS_LIST)) and not _set_list(fd, permissions, mode & ~without):
            bits = (0 if foreign else permissions.get(_GROUP, 0)) & mode >> 3 & 7
            mode = mode & ~_GROUP_BITS | bits << 3
            if foreign and self.closed:
                # Only members of the group can reach the file.
                mode |= (self.mode & _GROUP_BITS) | (self.mode & _GROUP_BITS) >> 3
        attempted(os.fchmod, fd, mode & ~without)
        if status.st_uid == 0 and self.owner > 0:
            attempted(os.fchown, fd, self.owner, -1)
        return mode


def attempted(call: Callable[..., object], *arguments: Any, **named: Any) -> bool:
    """Make the system call; False if this user or this file system cannot do it.

    Raises any other `OSError`.
    """
    try:
        call(*arguments, **named)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True


def rights_of(fd: int, mode: int, directory: int) -> Rights:
    """The rights of the file open as `fd` in the directory, with `mode` instead of its own mode."""
    status, around, acl = os.fstat(fd), os.fstat(directory), _list_of(fd, _ACCESS_LIST)
    if status.st_uid == around.st_uid and os.geteuid() not in (0, status.st_uid):
        acl = _packed(_named(_parsed(acl) or _of_mode(mode), (_NAMED_USER, status.st_uid), mode >> 6 & 7))
    return Rights(status.st_uid, status.st_gid, mode, acl, _is_closed(around))


def new_document_rights(directory: int) -> Rights:
    """Rights of a new document: as `open` would set them, and open to all who may write the directory."""
    handed_on = _parsed(_list_of(directory, _DEFAULT_LIST))
    return _open_to_writers(directory, handed_on or _of_mode(new_file_mode()))


def lock_file_rights(directory: int) -> Rights:
    """Rights of a new lock file: only those who can replace the document anyway may open it."""
    return _open_to_writers(directory, _of_mode(0o600))


def new_file_mode() -> int:
    """The mode that this process's umask gives to a new file."""
    with contextlib.suppress(OSError), open(PROCESS_STATUS, "rb") as process_status:
        umask = re.search(rb"^Umask:\s*([0-7]+)$", process_status.read(), re.MULTILINE)
        if umask:
            return NEW_FILE_MODE & ~int(umask[1], 8)
    # Elsewhere the only way to read the umask is to set it, for all threads.
    mask = os.umask(0o077)
    os.umask(mask)
    return NEW_FILE_MODE & ~mask


def _open_to_writers(directory: int, permissions: _Permissions) -> Rights:
    status = os.fstat(directory)
    bound = permissions.pop(_MASK, 7)
    mine = {who: bits & _READ_WRITE & (bound if _is_bounded(who) else 7) for who, bits in permissions.items()}
    mine[_OWNER] = _READ_WRITE
    writers = _writers(_parsed(_list_of(directory, _ACCESS_LIST)) or _of_mode(stat.S_IMODE(status.st_mode)))
    if os.geteuid() not in (0, status.st_uid):
        writers.append((_NAMED_USER, status.st_uid))
    mine.update(dict.fromkeys(writers, _READ_WRITE))
    group = status.st_gid if _GROUP in writers else -1
    named = [bits for (tag, _), bits in mine.items() if tag in (_NAMED_USER, _NAMED_GROUP)]
    of_group, acl = mine[_GROUP], b""
    if named:
        for bits in named:
            of_group |= bits
        mine[_MASK] = of_group
        acl = _packed(mine)
    return Rights(status.st_uid, group, mine[_OWNER] << 6 | of_group << 3 | mine[_OTHERS], acl, _is_closed(status))


def _is_closed(directory: os.stat_result) -> bool:
    return not directory.st_mode & stat.S_IXOTH


def _writers(permissions: _Permissions) -> list[tuple[int, int]]:
    bound = permissions.get(_MASK, 7)
    return [who for who, bits in permissions.items() if _is_bounded(who) and bits & bound & 2]


def _is_bounded(who: tuple[int, int]) -> bool:
    return who not in (_OWNER, _MASK, _OTHERS)


def _of_mode(mode: int) -> _Permissions:
    return {_OWNER: mode >> 6 & 7, _GROUP: mode >> 3 & 7, _OTHERS: mode & 7}


def _named(permissions: _Permissions, who: tuple[int, int], bits: int) -> _Permissions:
    """`permissions` with a named entry for a user or group to whom the file cannot be given."""
    bound = permissions.get(_MASK, permissions[_GROUP])
    return {**permissions, who: bits, _MASK: bound | bits}


def _parsed(acl: bytes) -> _Permissions:
    if acl[:4] != _VERSION or (len(acl) - 4) % _ENTRY.size:
        return {}
    return {(tag, number): bits for tag, bits, number in _ENTRY.iter_unpack(acl[4:])}


def _packed(permissions: _Permissions) -> bytes:
    # The kernel requires the entries in the order of their tags.
    return _VERSION + b"".join(_ENTRY.pack(tag, bits, number) for (tag, number), bits in sorted(permissions.items()))


def _list_of(fd: int, name: str) -> bytes:
    if hasattr(os, "getxattr"):  # Linux
        with contextlib.suppress(OSError):
            return os.getxattr(fd, name)
    return b""


def _set_list(fd: int, permissions: _Permissions, mode: int) -> bool:
    """Set the access control list; the owner's, the others' and the mask's bits come from `mode`."""
    of_mode = _of_mode(mode)
    bound = {_MASK: of_mode.pop(_GROUP)} if _MASK in permissions else {}
    acl = _packed({**permissions, **of_mode, **bound})
    return hasattr(os, "setxattr") and attempted(os.setxattr, fd, _ACCESS_LIST, acl)
