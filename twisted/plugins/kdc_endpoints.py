"""Endpoint strings that begin with ``kdc:``, for ``twistd`` and every Twisted program.

Apart from kdc_plugins.py, so that starting the KDC never depends on this.  It
imports nothing of ours until such a string is used.
"""

from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(
    IPlugin, IStreamClientEndpointStringParserWithReactor, IStreamServerEndpointStringParser
)
class _Parser:
    prefix = "kdc"

    def parseStreamClient(self, reactor, *args, **kwargs):
        from kdc.endpoint_strings import client_endpoint

        return client_endpoint(reactor, *args, **kwargs)

    def parseStreamServer(self, reactor, *args, **kwargs):
        from kdc.endpoint_strings import server_endpoint

        return server_endpoint(reactor, *args, **kwargs)


parser = _Parser()
