"""`NamedTuple` without `typing`: importing `typing` takes a third of the run time of a program that only reads.

Type checkers see `typing.NamedTuple` instead.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Maker(type):
    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        if not bases:
            return super().__new__(cls, name, bases, namespace)
        fields = namespace.pop("__annotations__", {})
        defaults = [namespace.pop(field) for field in fields if field in namespace]
        made = namedtuple(name, fields, defaults=defaults)  # type: ignore[misc]
        made.__annotations__ = fields
        for key, value in namespace.items():
            if key != "__qualname__":
                setattr(made, key, value)
        return made


class NamedTuple(metaclass=_Maker):
    """Subclasses declare fields and defaults as they would with `typing.NamedTuple`."""
