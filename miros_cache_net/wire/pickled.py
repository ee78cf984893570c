"""Reads and writes pickles of one text or a pair of texts by hand, as `miros-rabbitmq` programs send them.

`pickle` itself builds whatever a pickle names, so it is imported nowhere.  This module knows twelve operations, which
can only push texts on a stack and put two of them into a tuple; old programs send at most ten operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from miros_cache_net import limits
from miros_cache_net.errors import MalformedMessage

_Stack = list[Any]
_Operation = Callable[[bytes, int, _Stack], int]

_MARK: Final = object()
_STOP: Final = b"."
_PROTOCOL_3: Final = b"\x80\x03"
_HIGHEST_PROTOCOL: Final = 5


def dump_text(text: str) -> bytes:
    """`text` as `pickle.dumps(text, protocol=3)` writes it."""
    return b"%b%bq\x00." % (_PROTOCOL_3, _binunicode(text))


def dump_pair(first: str, second: str) -> bytes:
    """The two texts as `pickle.dumps((first, second), protocol=3)` writes them."""
    return b"%b%bq\x00%bq\x01\x86q\x02." % (_PROTOCOL_3, _binunicode(first), _binunicode(second))


def load_text(data: bytes) -> str:
    """The text in a pickle of one, of any protocol.  Raises `MalformedMessage` for any other."""
    text = _result(data)
    if not isinstance(text, str):
        raise MalformedMessage("the decrypted message is not a pickled text")
    return text


def load_pair(data: bytes) -> tuple[str, str]:
    """The texts in a pickle of a tuple of two, of any protocol.  Raises `MalformedMessage` for any other."""
    pair = _result(data)
    if not isinstance(pair, tuple):
        raise MalformedMessage("the decrypted message is not a pickled pair of texts")
    first, second = pair
    return first, second


def _binunicode(text: str) -> bytes:
    data = text.encode()
    return b"X%b%b" % (len(data).to_bytes(4, "little"), data)


def _result(data: bytes) -> Any:
    stack: _Stack = []
    at = 0
    for _ in range(limits.PICKLE_OPERATIONS):
        code = data[at : at + 1]
        operation = _OPERATIONS.get(code)
        if operation is None:
            raise MalformedMessage("the pickle is truncated, or does more than hold texts")
        at = operation(data, at + 1, stack)
        if code == _STOP:
            break
    else:
        raise MalformedMessage(f"the pickle has more than {limits.PICKLE_OPERATIONS} operations")
    if at != len(data) or len(stack) != 1:
        raise MalformedMessage("the pickle holds more than it declares")
    return stack[0]


# --- the operations: each reads its argument after its opcode, and returns the offset of the next one ----------


def _bytes(data: bytes, at: int, count: int) -> bytes:
    taken = data[at : at + count]
    if len(taken) != count:
        raise MalformedMessage("the pickle is truncated")
    return taken


def _line(data: bytes, at: int) -> bytes:
    end = data.find(b"\n", at)
    if end < 0:
        raise MalformedMessage("the pickle is truncated")
    return data[at:end]


def _push(stack: _Stack, text: bytes, encoding: str = "utf-8") -> None:
    try:
        decoded = text.decode(encoding)
        decoded.encode()  # half a surrogate pair is no text
    except UnicodeError:
        raise MalformedMessage("the pickle holds something other than text") from None
    stack.append(decoded)


def _counted_text(length_bytes: int) -> _Operation:
    def operation(data: bytes, at: int, stack: _Stack) -> int:
        length = int.from_bytes(_bytes(data, at, length_bytes), "little")
        at += length_bytes
        _push(stack, _bytes(data, at, length))
        return at + length

    return operation


def _unicode(data: bytes, at: int, stack: _Stack) -> int:
    line = _line(data, at)
    _push(stack, line, "raw-unicode-escape")
    return at + len(line) + 1


def _proto(data: bytes, at: int, _stack: _Stack) -> int:
    if _bytes(data, at, 1)[0] > _HIGHEST_PROTOCOL:
        raise MalformedMessage("the pickle has an unknown protocol")
    return at + 1


def _frame(data: bytes, at: int, _stack: _Stack) -> int:
    _bytes(data, at + 8, int.from_bytes(_bytes(data, at, 8), "little"))
    return at + 8


def _put(data: bytes, at: int, stack: _Stack) -> int:
    line = _line(data, at)
    if not (len(line) == 1 and line.isdigit()):
        raise MalformedMessage("the pickle memoizes more than it holds")
    return _remembered(int(line), at + 2, stack)


def _binput(data: bytes, at: int, stack: _Stack) -> int:
    return _remembered(_bytes(data, at, 1)[0], at + 1, stack)


def _memoize(_data: bytes, at: int, stack: _Stack) -> int:
    return _remembered(0, at, stack)


def _remembered(place: int, at: int, stack: _Stack) -> int:
    """The memo is write-only: no known operation reads it, so nothing is stored."""
    if place > limits.PICKLE_MEMO or not stack:
        raise MalformedMessage("the pickle memoizes more than it holds")
    return at


def _mark(_data: bytes, at: int, stack: _Stack) -> int:
    stack.append(_MARK)
    return at


def _tuple(_data: bytes, at: int, stack: _Stack) -> int:
    if len(stack) != 3 or stack.pop(0) is not _MARK:
        raise MalformedMessage("the pickle is not a pair of texts")
    return _tuple2(_data, at, stack)


def _tuple2(_data: bytes, at: int, stack: _Stack) -> int:
    if len(stack) != 2 or not all(isinstance(each, str) for each in stack):
        raise MalformedMessage("the pickle is not a pair of texts")
    stack[:] = [tuple(stack)]
    return at


def _stop(_data: bytes, at: int, _stack: _Stack) -> int:
    return at


_OPERATIONS: Final[dict[bytes, _Operation]] = {
    b"(": _mark,
    b"t": _tuple,
    b"\x86": _tuple2,
    b"V": _unicode,
    b"X": _counted_text(4),
    b"\x8c": _counted_text(1),
    b"p": _put,
    b"q": _binput,
    b"\x94": _memoize,
    b"\x80": _proto,
    b"\x95": _frame,
    _STOP: _stop,
}
