"""What a reactor has to be able to do."""

from __future__ import annotations

from twisted.internet.interfaces import (
    IReactorCore,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
)

# No __all__: the API reference shows what is here as kdc.api's.


class Reactor(
    IReactorCore, IReactorPluggableNameResolver, IReactorTCP, IReactorThreads, IReactorTime
):
    """A reactor as Twisted has them: ``twisted.internet.reactor``, or what `kdc.api.run` gives.

    It has timers, threads, TCP and names of hosts.
    """
