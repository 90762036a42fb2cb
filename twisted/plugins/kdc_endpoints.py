"""Endpoint strings that begin with ``kdc:``, for ``twistd`` and every Twisted program.

Apart from kdc_plugins.py, so that starting the KDC never depends on this.  It
imports nothing of ours until such a string is used.
"""

from typing import Any

from twisted.internet.interfaces import (
    IReactorCore,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(
    IPlugin, IStreamClientEndpointStringParserWithReactor, IStreamServerEndpointStringParser
)
class _Parser:
    prefix = "kdc"

    def parseStreamClient(
        self, reactor: IReactorCore, *args: Any, **kwargs: Any
    ) -> IStreamClientEndpoint:
        from kdc.endpoint_strings import client_endpoint

        return client_endpoint(reactor, *args, **kwargs)

    def parseStreamServer(
        self, reactor: IReactorCore, *args: Any, **kwargs: Any
    ) -> IStreamServerEndpoint:
        from kdc.endpoint_strings import server_endpoint

        return server_endpoint(reactor, *args, **kwargs)


parser = _Parser()
