"""One document kept by different means, behind one interface; equally durable, all parsed from or to JSON text.

Every contender is opened in the process that uses it (after a fork) and names what it does differently.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from miros_cache_net.cache import Cache

Contents = dict[str, Any]


class Contender(ABC):
    """Keeps one document in `directory`."""

    name = ""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "document.json"

    @abstractmethod
    def read(self) -> Any: ...

    @abstractmethod
    def write(self, contents: Contents) -> None: ...

    @abstractmethod
    def modify(self, function: Callable[[Contents], Contents]) -> None: ...

    def update(self, key: str, value: Any) -> None:
        """Set one key."""
        self.modify(lambda contents: {**contents, key: value})

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Give up what is open."""


class Ours(Contender):
    """Reads without a lock, writes inside the kernel's lock."""

    name = "miros-cache-net"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._cache = Cache(self.path)

    def read(self) -> Any:
        return self._cache.read()

    def write(self, contents: Contents) -> None:
        self._cache.write(contents)

    def modify(self, function: Callable[[Contents], Contents]) -> None:
        self._cache.modify(function)

    def update(self, key: str, value: Any) -> None:
        self._cache.update({key: value})

    def close(self) -> None:
        self._cache.close()


class Bare(Contender):
    """The system calls alone, nobody excluded."""

    name = "bare system calls"

    def read(self) -> Any:
        with open(self.path, "rb") as file:
            return json.loads(file.read())

    def write(self, contents: Contents) -> None:
        temporary = f"{self.path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(fd, json.dumps(contents, separators=(",", ":")).encode())
        os.fsync(fd)
        os.close(fd)
        os.rename(temporary, self.path)
        fd = os.open(self.directory, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def modify(self, function: Callable[[Contents], Contents]) -> None:
        self.write(function(self.read()))


class Flock(Bare):
    """The system calls under a blocking `flock` on a kept descriptor."""

    name = "bare flock"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def write(self, contents: Contents) -> None:
        with self._locked():
            super().write(contents)

    def modify(self, function: Callable[[Contents], Contents]) -> None:
        with self._locked():
            super().write(function(self.read()))

    def close(self) -> None:
        os.close(self._fd)


class FileLockJson(Bare):
    """JSON under py-filelock, as its documentation shows it: reads take the lock too."""

    name = "py-filelock"

    def __init__(self, directory: Path) -> None:
        from filelock import FileLock

        super().__init__(directory)
        self._lock = FileLock(directory / "lock")

    def read(self) -> Any:
        with self._lock:
            return super().read()

    def write(self, contents: Contents) -> None:
        with self._lock:
            super().write(contents)

    def modify(self, function: Callable[[Contents], Contents]) -> None:
        with self._lock:
            super().write(function(super().read()))


class DiskCache(Contender):
    """diskcache with synchronous=FULL."""

    name = "diskcache"

    def __init__(self, directory: Path) -> None:
        import diskcache

        super().__init__(directory)
        self._cache = diskcache.Cache(str(directory / "diskcache"), sqlite_synchronous=2, timeout=600)

    def read(self) -> Any:
        return json.loads(self._cache["document"])

    def write(self, contents: Contents) -> None:
        self._cache["document"] = json.dumps(contents)

    def modify(self, function: Callable[[Contents], Contents]) -> None:
        with self._cache.transact(retry=True):
            self.write(function(self.read()))

    def close(self) -> None:
        self._cache.close()


class SqliteWal(Contender):
    """sqlite3 in WAL mode with synchronous=FULL."""

    name = "sqlite3 WAL"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._database = sqlite3.connect(directory / "sqlite", timeout=600, isolation_level=None)
        self._database.execute("pragma journal_mode=wal")
        self._database.execute("pragma synchronous=full")
        self._database.execute("create table if not exists document (id integer primary key, text text)")

    def read(self) -> Any:
        return json.loads(self._database.execute("select text from document where id = 1").fetchone()[0])

    def write(self, contents: Contents) -> None:
        self._database.execute("insert or replace into document values (1, ?)", [json.dumps(contents)])

    def modify(self, function: Callable[[Contents], Contents]) -> None:
        self._database.execute("begin immediate")
        self.write(function(self.read()))
        self._database.execute("commit")

    def close(self) -> None:
        self._database.close()


class Lmdb(Contender):
    """lmdb with its durable default."""

    name = "lmdb"

    def __init__(self, directory: Path) -> None:
        import lmdb

        super().__init__(directory)
        self._environment = lmdb.open(str(directory / "lmdb"), map_size=16 << 20, max_readers=4096)

    def read(self) -> Any:
        with self._environment.begin(buffers=False) as transaction:
            return json.loads(transaction.get(b"document"))

    def write(self, contents: Contents) -> None:
        with self._environment.begin(write=True) as transaction:
            transaction.put(b"document", json.dumps(contents).encode())

    def modify(self, function: Callable[[Contents], Contents]) -> None:
        with self._environment.begin(write=True) as transaction:
            contents = function(json.loads(transaction.get(b"document")))
            transaction.put(b"document", json.dumps(contents).encode())

    def close(self) -> None:
        self._environment.close()


class ModeBit(Contender):
    """The original's protocol: un-writable while held, random growing waits; neither atomic nor durable."""

    name = "mode bit"

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        bound_s = 0.1
        while not os.stat(self.path).st_mode & 0o222:
            time.sleep(random.uniform(0.001, bound_s))
            bound_s = min(bound_s + 1.2, 5.0)
        os.chmod(self.path, 0o444)
        try:
            yield
        finally:
            os.chmod(self.path, 0o644)

    def _read(self) -> Any:
        try:
            return json.loads(self.path.read_bytes())
        except ValueError:
            return {}

    def read(self) -> Any:
        with self._held():
            return self._read()

    def write(self, contents: Contents) -> None:
        if not self.path.exists():
            self.path.touch()
        with self._held():
            self.path.write_text(json.dumps(contents))

    def modify(self, function: Callable[[Contents], Contents]) -> None:
        with self._held():
            self.path.write_text(json.dumps(function(self._read())))


ALL: list[type[Contender]] = [Ours, Flock, FileLockJson, DiskCache, SqliteWal, Lmdb, ModeBit]
