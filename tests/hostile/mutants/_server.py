"""docs/protocol.md sections 4 and 10: the KDC's connections."""

from __future__ import annotations

from tests.hostile.mutants._mutant import Mutant, of

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *of(
        "kdc/server/_connections.py",
        "tests.server.test_connections",
        ("2", "ALPN", "if transport.negotiatedProtocol != ALPN:", "if False:"),
    ),
    *of(
        "kdc/server/_connections.py",
        "tests.server.test_connections.ArrivalTests tests.server.test_connections.FairnessTests",
        (
            "10",
            "arrivals that prove nothing",
            "if not self.arrivals.admit(address, self.now().milliseconds):",
            "if False:",
        ),
        (
            "10",
            "who proves is not counted",
            "        self.factory.arrivals.proved(self._address, self.factory.now().milliseconds)\n",
            "",
        ),
        (
            "10",
            "who is over its rate is not read",
            "        if rest is not None:\n            self._pause(rest / 1000)\n",
            "",
        ),
    ),
    *of(
        "kdc/server/_connections.py",
        "tests.server.test_gone",
        (
            "10",
            "what its client has ended is gone",
            "        if not self._closing:\n            self._let_go()\n",
            "",
        ),
        (
            "10",
            "what was ended at once is gone",
            'still to be said."""\n        self._let_go()\n',
            'still to be said."""\n',
        ),
    ),
    *of(
        "kdc/net/lean_tls.py",
        "tests.server.test_gone",
        ("10", "what was cut is gone", "if not self._lostTLSConnection:", "if False:"),
    ),
    *of(
        "kdc/net/log.py",
        "tests.project.test_logs",
        (
            "operators",
            "what others have chosen forges no line of a log",
            "harmless(str(value)) if isinstance(value, str | BaseException) else value",
            "value",
        ),
    ),
    *of(
        "kdc/server/_handshakes.py",
        "tests.server.test_handshakes",
        (
            "10",
            "one handshake begins in a turn",
            "        if not self._taken:\n",
            "        if True:\n",
        ),
        (
            "10",
            "the next is another address's",
            "            self._waiting[prefix] = crowd  # behind all others\n",
            "            self._waiting = {prefix: crowd, **self._waiting}\n",
        ),
        (
            "10",
            "nothing is read before it is its turn",
            "        cast(Any, self.transport).pauseProducing()\n",
            "",
        ),
        (
            "10",
            "who waits for his turn can be ended",
            "        self._inner.transport = self.transport\n",
            "",
        ),
        (
            "10",
            "who has gone costs nobody a turn",
            "            if begin():\n                break\n",
            "            begin()\n            break\n",
        ),
        (
            "10",
            "who has gone has no turn",
            "        if self._gone:\n            return False\n",
            "",
        ),
    ),
    *of(
        "kdc/limits.py",
        "tests.issuing.test_limits",
        (
            "10",
            "a stranger's address has its share and no more",
            "        if spent and not known:\n            return False\n",
            "",
        ),
        (
            "10",
            "an address's own share does not depend on others",
            "        if (spent or not known) and self._of_all.take(",
            "        if self._of_all.take(",
        ),
        (
            "10",
            "what is beyond the shares has a limit",
            "        if (spent or not known) and self._of_all.take(known, now_milliseconds):\n",
            "        if not known and self._of_all.take(known, now_milliseconds):\n",
        ),
        (
            "10",
            "a stranger takes nothing of what is shared where one has logged in",
            "self._of_all.take(known, now_milliseconds)",
            "self._of_all.take(False, now_milliseconds)",
        ),
    ),
    *of(
        "kdc/server/_directory.py",
        "tests.server.test_directory",
        (
            "10",
            "a channel to the directory counts",
            "        self._directory.charge(addr.name, _CHANNEL_CHARGE)\n",
            "",
        ),
        (
            "10",
            "a question counts by what it costs",
            "            self.charge(client, len(self.store) / _NAMES_PER_CHARGE)\n",
            "            pass\n",
        ),
    ),
    *of(
        "kdc/issuing/_authentication.py",
        "tests.issuing.test_issuer",
        (
            "10",
            "a log-in that would wait too long",
            "    if owed_seconds > _PATIENCE_SECONDS:\n",
            "    if False:\n",
        ),
    ),
    *of(
        "kdc/server/_connections.py",
        "tests.server.test_connections",
        (
            "10",
            "a TLS handshake has its time",
            "        notice_dead_peers(self.transport)\n        self._within(self.factory.limits.tls_seconds)\n",
            "        notice_dead_peers(self.transport)\n",
        ),
        (
            "10",
            "who is idle is ended",
            "            self._within(remaining, self._idle)\n        else:\n            self.close()",
            "            self._within(remaining, self._idle)",
        ),
        (
            "10",
            "a receiver may be silent",
            "        if self._session is not None and self._session.holds_epoch:\n            remaining",
            "        if False:\n            remaining",
        ),
        ("10", "the end is not waited for for ever", "        self._within(_CLOSE_SECONDS)\n", ""),
        (
            "4.1",
            "nothing is looked at while a change is written",
            "            if self._waits or self._choked or self._closing:\n                break",
            "            if self._choked or self._closing:\n                break",
        ),
        (
            "10",
            "who does not read is not answered",
            "            if self._waits or self._choked or self._closing:\n                break",
            "            if self._waits or self._closing:\n                break",
        ),
        (
            "4.1",
            "nothing is taken behind what closes",
            "            if self._waits or self._choked or self._closing:\n                break",
            "            if self._waits or self._choked:\n                break",
        ),
        (
            "10",
            "who sends crumbs is ended",
            "                if self._pieces > _MOST_PIECES:\n                    self.abort()\n",
            "",
        ),
        (
            "10",
            "crumbs are counted from one frame to the next",
            "            self._pieces = 0\n            output",
            "            output",
        ),
        (
            "10",
            "who does not read is not read from",
            "        if self._choked or self._waits or self._rest.running:",
            "        if self._waits or self._rest.running:",
        ),
        (
            "4.1",
            "nothing is read while a change is written",
            "        if self._choked or self._waits or self._rest.running:",
            "        if self._choked or self._rest.running:",
        ),
        (
            "10",
            "who reads again is answered",
            "        self._choked = False\n        self._pace()\n        self._work()\n",
            "        self._choked = False\n        self._pace()\n",
        ),
        (
            "10",
            "a KDC that closes keeps nothing of what still comes",
            "        if self._closing:\n            return\n        self._frames.feed(data)\n",
            "        self._frames.feed(data)\n",
        ),
        (
            "10",
            "a few frames in a turn",
            "        for _ in range(_FRAMES_AT_ONCE):",
            "        for _ in range(1 << 30):",
        ),
        (
            "4.1",
            "nobody is told what nobody knows",
            '            self.log.error("no answer: {error}", error=str(error))\n            self.abort()\n            return\n',
            '            self.log.error("no answer: {error}", error=str(error))\n            result = None\n',
        ),
        (
            "10",
            "the oldest newcomer makes room",
            "        if displaced is not None:\n            displaced.abort()\n",
            "        if displaced is not None:\n",
        ),
        (
            "4.1",
            "what is decided of other connections is done",
            "        if output.others:\n            self.factory.perform(output.others)\n",
            "",
        ),
        (
            "4.1",
            "an epoch ends with its connection",
            "            self.factory.detach(self._session)\n            self._session.closed()",
            "            self.factory.detach(self._session)",
        ),
        (
            "10",
            "a change that failed ends nothing",
            "        if self._newcomer and not self._closing:\n            # Registered",
            "        if not self._closing:\n            # Registered",
        ),
    ),
    *of(
        "kdc/admin/wire.py",
        "tests.admin.test_wire",
        (
            "operators",
            "who listens is the KDC",
            "    if uid not in owners_of(store):",
            "    if False:",
        ),
        (
            "operators",
            "nobody else can write where the socket is",
            "    check_directory(store)\n    path",
            "    path",
        ),
    ),
    *of(
        "kdc/relay/_registry.py",
        "tests.relay.test_registry tests.relay.test_port",
        ("6.6", "a token has its time", "if sender is None or now > until:", "if sender is None:"),
        (
            "6.6",
            "the first claim holds",
            "            owned = holder is None or self._links[holder].principal == linked.principal",
            "            owned = True",
        ),
        (
            "6.6",
            "claims end with their link",
            "        for epoch_id in linked.claimed:\n            del self._claims[epoch_id]\n",
            "",
        ),
        (
            "6.6",
            "who is gone is not waited for",
            "        self._waiting.pop(joining.token, None)\n",
            "",
        ),
        (
            "10",
            "epochs claimed over a link",
            "        if len(linked.claimed) >= self.limits.epochs_per_link:",
            "        if False:",
        ),
        (
            "10",
            "links of one principal",
            "full = self._linked[principal] >= self.limits.links_per_principal",
            "full = False",
        ),
        (
            "10",
            "links from one address",
            '_refuse_at("links_per_address", there,',
            '_refuse_at("links_per_address", 0,',
        ),
        (
            "10",
            "links in all",
            '_refuse_at("links", links,',
            '_refuse_at("links", 0,',
        ),
        (
            "10",
            "joined connections in all",
            '_refuse_at("joined", len(self._joining),',
            '_refuse_at("joined", 0,',
        ),
        (
            "10",
            "joined connections to one principal",
            '_refuse_at("joined_per_principal", self._joined[principal],',
            '_refuse_at("joined_per_principal", 0,',
        ),
        (
            "10",
            "joined connections from one address",
            '_refuse_at("joined_per_address", self._joined_from[prefix],',
            '_refuse_at("joined_per_address", 0,',
        ),
        (
            "6.6",
            "only a claim of one's own is released",
            "        if self._claims.get(epoch_id) is link:",
            "        if epoch_id in self._claims:",
        ),
    ),
    *of(
        "kdc/relay/_links.py",
        "tests.relay",
        (
            "6.6",
            "a relay dials so often for one receiver",
            "if self._dialling or links.dials.take(self._peer.name, links.now()):",
            "if self._dialling:",
        ),
        (
            "6.6",
            "a relay dials one after the other",
            "if self._dialling or links.dials.take(self._peer.name, links.now()):",
            "if links.dials.take(self._peer.name, links.now()):",
        ),
        (
            "6.6",
            "what no receiver says",
            '            raise malformed(f"a receiver does not say {type(message).__name__}")',
            "            pass",
        ),
    ),
]
