"""Every exception of the project, in one hierarchy, and the reasons that ``CACHE_ERROR`` carries.

An error message is one line that says what is wrong and how to fix it.  It never contains a secret.
"""

from __future__ import annotations

from enum import Enum

TYPE_CHECKING = False  # importing typing takes longer than a reader runs
if TYPE_CHECKING:
    from typing import ClassVar


class Reason(str, Enum):
    """Why something went wrong: the fixed list behind ``CacheErrorPayload.reason``."""

    # the document's text
    MALFORMED = "malformed"  # set aside; the document starts again from the default
    # an event's payload
    PAYLOAD = "payload"
    TOO_LARGE = "too_large"  # this host's contents and another's exceed a cap only when merged
    AMBIGUOUS = "ambiguous"  # a base name that matches two charts
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
    TAKEN_OVER = "taken_over"  # a program left the file un-writable and never came back
    SUPERSEDED = "superseded"
    # the chart
    HANDLER = "handler"  # a handler raised
    OVERFLOW = "overflow"  # a full queue refused an event
    FORKED = "forked"
    STOPPED = "stopped"
    # the network
    CLOCK = "clock"  # a stamp too far ahead
    WIRE = "wire"  # the bytes that arrived are not one of our messages
    KEY = "key"
    BROKER = "broker"
    BRIDGE = "bridge"  # the process that links this host to the fleet does not answer the others
    SETTINGS = "settings"


class CacheNetError(Exception):
    """Base class of every error raised by miros_cache_net.

    what  the message without its remedy
    mend  what to do about it, as the message ends; "" if `what` says it too
    """

    reason: ClassVar[Reason] = Reason.IO
    _joint: ClassVar[str] = "; "

    def __init__(self, what: str = "", *, mend: str = "") -> None:
        super().__init__(f"{what}{self._joint}{mend}" if mend else what)
        self.what, self.mend = what, mend


class SettingsError(CacheNetError):
    """A setting is missing or malformed; the message names the setting and the command that helps."""

    reason = Reason.SETTINGS


class DocumentError(CacheNetError, ValueError):
    """The text is not a document: not a JSON object, too large, nested too deeply, duplicate keys, ..."""

    reason = Reason.MALFORMED


class PayloadError(CacheNetError, ValueError):
    """The contents that an event or a caller passed cannot be written."""

    reason = Reason.PAYLOAD


class EventNotSendable(PayloadError, TypeError):
    """Another host could not read the event: JSON cannot represent its payload."""


class DocumentTooLarge(CacheNetError, ValueError):
    """The merge of two documents exceeds a cap; the message says which cap, by how much, and how to fix it."""

    reason = Reason.TOO_LARGE


# --- the cache file -------------------------------------------------------------------------------


class StoreError(CacheNetError):
    """The cache file cannot be used as asked."""


class FileRefused(StoreError):
    """The file at the path, or its directory, is not fit to hold a cache."""

    reason = Reason.REFUSED


class SymbolicLinkRefused(FileRefused):
    """The file or its lock is a symbolic link, which could lead anywhere."""

    reason = Reason.SYMLINK


class HardLinkRefused(FileRefused):
    """The file or its lock has a second name, which a replacement would leave with the old contents."""

    reason = Reason.HARD_LINK


class NotRegularRefused(FileRefused):
    """The file or its lock is a directory, FIFO, socket or device."""

    reason = Reason.NOT_REGULAR


class PermissionRefused(StoreError):
    """The file, its lock or its directory belongs to another user."""

    reason = Reason.PERMISSION


class Immutable(PermissionRefused):
    """The file, its lock or its directory is marked immutable (``chattr +i``)."""

    reason = Reason.IMMUTABLE


class DirectoryMissing(StoreError):
    """The directory of the cache file does not exist."""

    reason = Reason.NO_DIRECTORY


class NoSpace(StoreError):
    """The disk or the quota is full; the document is unchanged."""

    reason = Reason.NO_SPACE


class FileSystemReadOnly(StoreError):
    """The file system is mounted read-only."""

    reason = Reason.READ_ONLY


class FileIOError(StoreError):
    """Any other operating system error on the cache file."""

    reason = Reason.IO


class Superseded(StoreError):
    """A whole write changed the document after this discovery began; the discovery's result was not stored."""

    reason = Reason.SUPERSEDED


class DiscoveryTimeout(StoreError, TimeoutError):
    """Another program is discovering and did not finish within the caller's time limit."""

    reason = Reason.LOCK


class DiscoveryRecursion(CacheNetError, RecursionError):
    """A discovery asks for the document that it is discovering, so it would wait for itself."""

    reason = Reason.HANDLER


class ModifyRecursion(CacheNetError, RecursionError):
    """A function given to `modify` changes the document that it is changing, so it would wait for itself."""

    reason = Reason.HANDLER


class UnsupportedPlatform(CacheNetError):
    """The operating system has no flock (native Windows), or green threads replace threads (gevent, eventlet)."""

    reason = Reason.LOCK


# --- charts ---------------------------------------------------------------------------------------


class ChartError(CacheNetError):
    """A statechart cannot do what the caller asked."""

    reason = Reason.HANDLER


class ChartForked(ChartError):
    """A child process used a chart built before ``fork``; the chart's thread does not exist in the child."""

    reason = Reason.FORKED


# --- the network ----------------------------------------------------------------------------------


class WireError(CacheNetError):
    """An incoming message was refused; ``counter`` is the name under which it is counted."""

    reason = Reason.WIRE
    counter: ClassVar[str] = "refused"


class TooLarge(WireError):
    """The message is longer than the cap, before or after decryption."""

    counter = "too_large"


class NotAuthentic(WireError):
    """No key in the key ring decrypts it: a wrong key, a damaged token, or not a token at all."""

    reason = Reason.KEY
    counter = "not_authentic"


class UnknownKey(NotAuthentic):
    """It has the form of our encrypted messages, but this host does not have the key, or it is damaged."""


class MalformedMessage(WireError):
    """The message is authentic, but not in this format."""

    counter = "malformed"


class WrongVersion(WireError):
    """The message has a format version that this release does not read."""

    counter = "version"


class WrongPlace(WireError):
    """The message is for another scope or document, or its routing key contradicts its contents."""

    counter = "wrong_place"


class Replayed(WireError):
    """The request was seen before."""

    counter = "replayed"


class TooOld(WireError):
    """The message is older than the old mesh allows, or from before this program listened."""

    counter = "too_old"


class FromTheFuture(WireError):
    """The message's time lies in the future: one of the two clocks is wrong."""

    counter = "future"


class SignalRefused(WireError):
    """No other program may trigger this event's signal here."""

    counter = "signal"


class HostProtocolError(CacheNetError):
    """The bytes from the host's socket are not one of our messages; the error never quotes them."""

    reason = Reason.BRIDGE


class BrokerError(CacheNetError):
    """RabbitMQ refused or failed a request.  ``fatal``: a retry cannot help."""

    reason = Reason.BROKER
    fatal: ClassVar[bool] = False
    _joint = ": "


class BrokerUnreachable(BrokerError):
    """Nothing answers AMQP at the address.

    may_be_busy  it timed out or dropped the connection, as a broker with too much to do does
    """

    def __init__(self, what: str = "", *, mend: str = "", may_be_busy: bool = False) -> None:
        super().__init__(what, mend=mend)
        self.may_be_busy = may_be_busy


class LoginRefused(BrokerError):
    """RabbitMQ refused the user name or password."""


class VhostRefused(BrokerError):
    """The virtual host does not exist or this user may not use it."""


class ExchangeConflict(BrokerError):
    """The exchange exists with another type or other arguments."""

    fatal = True


class QueueConflict(BrokerError):
    """A queue of our name exists with other arguments; the broker deletes an unused one after a while."""


class TopologyLost(BrokerError):
    """A queue or exchange was deleted while in use; the link declares it again at once."""


class MessageRefused(BrokerError):
    """RabbitMQ refused a message: too large, no permission, or a full queue; the link stays up."""


class Unroutable(MessageRefused):
    """No queue is bound for a message that was to reach one."""


class TLSRefused(BrokerError):
    """The broker's certificate was rejected."""
