"""Registers a module's parameters with Pyro under a name that no other module has.

``pyro.infer.SVI`` trains what is in Pyro's global parameter store, by name. Under a fixed name a
second model, a deep copy or a reloaded model would find the first one's parameters there and train
nothing, silently.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from weakref import WeakKeyDictionary

import pyro
from torch import nn

_counter = count()
# Keyed by identity, outside the module: a deep copy gets a number of its own.
_numbers: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
_wanted = ContextVar("wanted", default=True)


def register(module: nn.Module) -> None:
    """Make the parameters of ``module`` known to Pyro; call it first in a Pyro program."""
    if not _wanted.get():
        return
    if module not in _numbers:
        _numbers[module] = next(_counter)
    pyro.module(f"{type(module).__name__}.{_numbers[module]}", module)


@contextmanager
def unregistered() -> Iterator[None]:
    """In here :func:`register` does nothing: for what optimises the parameters itself.

    They are a hundred of Pyro's statements in each step, and would stay in its store afterwards.
    """
    before = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(before)
