"""Archipelago for Python.

New programs want `Node` and `Volume` (``archipelago.volume``), or, under asyncio,
``archipelago.aio``. ``archipelago.common``, ``archipelago.vlmc`` and ``archipelago.archipelago``
are the modules that programs of the original import, with the names and meanings of old.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import Error, OperationError
    from .volume import Extent, Node, Volume

__all__ = ["Error", "Extent", "Node", "OperationError", "Volume"]


def __getattr__(name: str) -> object:
    # Late, so that programs which only read a configuration do not load libxseg.
    if name in ("Error", "OperationError"):
        from . import errors

        return getattr(errors, name)
    if name in __all__:
        from . import volume

        return getattr(volume, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
