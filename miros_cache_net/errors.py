"""Every exception of the project, in one tree, and the reasons that ``CACHE_ERROR`` carries.

An error message is one line that says what is wrong and how to mend it.  It never holds a secret.
"""

from __future__ import annotations

from enum import Enum

TYPE_CHECKING = False  # typing takes longer to import than a reader lives
if TYPE_CHECKING:
    from typing import ClassVar


class Reason(str, Enum):
    """Why something went wrong: the fixed list behind ``CacheErrorPayload.reason``."""

    # the document's text
    MALFORMED = "malformed"  # set aside, started again from the default
    # what an event carried
    PAYLOAD = "payload"
    TOO_LARGE = "too_large"  # this host's and another's contents pass a cap only together
    AMBIGUOUS = "ambiguous"  # a base name that fits two charts
    # the file and its directory
    REFUSED = "refused"  # a sticky directory, a name that is too long, a newer format
    SYMLINK = "symlink"
    HARD_LINK = "hard_link"
    NOT_REGULAR = "not_regular"  # a directory, FIFO, socket or device
    PERMISSION = "permission"
    IMMUTABLE = "immutable"
    NO_DIRECTORY = "no_directory"
    NO_SPACE = "no_space"
    READ_ONLY = "read_only"
    IO = "io"
    LOCK = "lock"
    TAKEN_OVER = "taken_over"  # a file left un-writable by a program that never came back
    SUPERSEDED = "superseded"
    # the chart
    HANDLER = "handler"  # a handler raised
    OVERFLOW = "overflow"  # a bounded queue had to refuse an event
    FORKED = "forked"
    STOPPED = "stopped"
    # the network
    CLOCK = "clock"  # a stamp too far ahead
    WIRE = "wire"  # what arrived was no message of ours
    KEY = "key"
    BROKER = "broker"
    BRIDGE = "bridge"  # the process that links this host does not answer the others
    SETTINGS = "settings"


class CacheNetError(Exception):
    """Root of every error raised by miros_cache_net."""

    reason: ClassVar[Reason] = Reason.IO


class SettingsError(CacheNetError):
    """A setting is missing or malformed; the message names it and the command that helps."""

    reason = Reason.SETTINGS


class DocumentError(CacheNetError, ValueError):
    """The text is not a document: no JSON object, too large, too deep, duplicate keys, ..."""

    reason = Reason.MALFORMED


class PayloadError(CacheNetError, ValueError):
    """What an event or a caller handed over cannot be written."""

    reason = Reason.PAYLOAD


class DocumentTooLarge(CacheNetError, ValueError):
    """Two documents pass a cap when they are merged; the message says which, how far, and how to mend it."""

    reason = Reason.TOO_LARGE


# --- the cache file -------------------------------------------------------------------------------


class StoreError(CacheNetError):
    """The cache file cannot be used as asked."""


class FileRefused(StoreError):
    """What stands at the path, or where it lies, is nothing to keep a cache in."""

    reason = Reason.REFUSED


class SymbolicLinkRefused(FileRefused):
    """The file or its lock is a symbolic link, which could lead anywhere."""

    reason = Reason.SYMLINK


class HardLinkRefused(FileRefused):
    """The file or its lock has a second name, which a replacement would cut off."""

    reason = Reason.HARD_LINK


class NotRegularRefused(FileRefused):
    """The file or its lock is a directory, FIFO, socket or device."""

    reason = Reason.NOT_REGULAR


class PermissionRefused(StoreError):
    """The file, its lock or its directory belong to another user."""

    reason = Reason.PERMISSION


class Immutable(PermissionRefused):
    """The file, its lock or its directory must not be changed by anybody (``chattr +i``)."""

    reason = Reason.IMMUTABLE


class DirectoryMissing(StoreError):
    """The directory of the cache file does not exist."""

    reason = Reason.NO_DIRECTORY


class NoSpace(StoreError):
    """The disk or the quota is full; the document is as it was."""

    reason = Reason.NO_SPACE


class FileSystemReadOnly(StoreError):
    """The file system takes no writes."""

    reason = Reason.READ_ONLY


class FileIOError(StoreError):
    """Any other failure of the operating system below the cache file."""

    reason = Reason.IO


class Superseded(StoreError):
    """The document was written as a whole since this discovery began; its result was not stored."""

    reason = Reason.SUPERSEDED


class DiscoveryTimeout(StoreError, TimeoutError):
    """Somebody else discovers, and did not finish in the time that the caller gave."""

    reason = Reason.LOCK


class UnsupportedPlatform(CacheNetError):
    """This operating system has no flock (native Windows); use WSL, Linux or macOS."""

    reason = Reason.LOCK


# --- charts ---------------------------------------------------------------------------------------


class ChartError(CacheNetError):
    """A statechart cannot do what was asked of it."""

    reason = Reason.HANDLER


class ChartForked(ChartError):
    """A chart built before ``fork`` was used in the child, where its thread does not exist."""

    reason = Reason.FORKED


# --- the network ----------------------------------------------------------------------------------


class WireError(CacheNetError):
    """What arrived is refused; ``counter`` is the name it is counted under."""

    reason = Reason.WIRE
    counter: ClassVar[str] = "refused"


class TooLarge(WireError):
    """Longer than the cap, before or after decryption."""

    counter = "too_large"


class NotAuthentic(WireError):
    """No key of the ring opens it: a wrong key, a damaged token, or no token at all."""

    reason = Reason.KEY
    counter = "not_authentic"


class UnknownKey(NotAuthentic):
    """It is encrypted as ours are, with a key that this host does not hold, or damaged."""


class MalformedMessage(WireError):
    """Authentic, but not a message of this format."""

    counter = "malformed"


class WrongVersion(WireError):
    """A format version that this release does not read."""

    counter = "version"


class WrongPlace(WireError):
    """For another scope or document, or its routing key says something else than its inside."""

    counter = "wrong_place"


class Replayed(WireError):
    """A request seen before."""

    counter = "replayed"


class HostProtocolError(CacheNetError):
    """What came through the host's socket is no message of ours; never repeats what it held."""

    reason = Reason.BRIDGE


class BrokerError(CacheNetError):
    """RabbitMQ does not do what is asked.  ``fatal``: trying again cannot help."""

    reason = Reason.BROKER
    fatal: ClassVar[bool] = False


class BrokerUnreachable(BrokerError):
    """Nothing answers AMQP at the address."""


class LoginRefused(BrokerError):
    """RabbitMQ refused user or password."""


class VhostRefused(BrokerError):
    """The virtual host does not exist or this user may not use it."""


class ExchangeConflict(BrokerError):
    """The exchange exists with another type or other arguments."""

    fatal = True


class QueueConflict(BrokerError):
    """A queue of our name exists with other arguments; the broker drops an unused one after a while."""


class TopologyLost(BrokerError):
    """Somebody deleted a queue or exchange that was in use; the link declares it again at once."""


class TLSRefused(BrokerError):
    """The broker's certificate was not accepted."""
