"""docs/kerberos.md: the operator's realm, its port, and who gets what there."""

from __future__ import annotations

from tests.hostile.mutants._mutant import Mutant, of

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *of(
        "kdc/server/_kerberos.py",
        "tests.server.test_kerberos",
        (
            "kerberos strangers",
            "an answer to who may be somebody else is short",
            "return answer.reply if proved else self._short_enough(answer, 2 * len(request), now)",
            "return answer.reply",
        ),
        (
            "kerberos strangers",
            "what is no request is not answered",
            "        if asked is None and answer.code is Code.GENERIC:\n            return None",
            "        if False:\n            return None",
        ),
        (
            "kerberos strangers",
            "a cookie is of one address",
            "self._aead.decrypt(nonce, sealed, address.encode())",
            'self._aead.decrypt(nonce, sealed, b"192.0.2.7")',
        ),
        (
            "kerberos strangers",
            "a cookie ends",
            "return abs(now - made) <= _COOKIE_SECONDS",
            "return True",
        ),
        (
            "kerberos strangers",
            "an address that has shown nothing is not held to account",
            "if proved and asked is not None and asked.initial:",
            "if asked is not None and asked.initial:",
        ),
        (
            "kerberos strangers",
            "who fails too often is not told more",
            "            if self._failures.wait(bucket, milliseconds):",
            "            if False:",
        ),
        (
            "kerberos strangers",
            "whoever says that he is another takes nothing of his",
            "if self._said_from.take(prefix, milliseconds)",
            "if self._of_address.take(prefix, milliseconds)",
        ),
        (
            "kerberos strangers",
            "datagrams of an address are limited",
            "if self._said_from.take(prefix, milliseconds) or self._datagrams.take(0, milliseconds):",
            "if self._datagrams.take(0, milliseconds):",
        ),
        (
            "kerberos strangers",
            "datagrams of all are limited",
            "if self._said_from.take(prefix, milliseconds) or self._datagrams.take(0, milliseconds):",
            "if self._said_from.take(prefix, milliseconds):",
        ),
        (
            "kerberos at once",
            "a KDC that is cut off decides nothing",
            "        if self.is_current:\n            return self._kdc.answer",
            "        if True:\n            return self._kdc.answer",
        ),
        (
            "kerberos at once",
            "policy is by the owner",
            "self.issuing.permits(client.owner, server.owner)",
            "True",
        ),
        (
            "kerberos strangers",
            "names in the log are words",
            'return ascii(text)[1:-1].replace(" ", "\\\\x20")[:_MAX_NAME]',
            "return text[:_MAX_NAME]",
        ),
    ),
    *of(
        "kdc/kerberos/realm.py",
        "tests.server.test_kerberos",
        (
            "kerberos at once",
            "a ticket of who had the name before is refused",
            "if client.since is not None and auth_time < client.since:",
            "if False:",
        ),
    ),
    *of(
        "kdc/kerberos/tgs_exchange.py",
        "tests.server.test_kerberos",
        (
            "kerberos at once",
            "policy is asked for each ticket",
            "    realm.check_permitted(client, server)\n",
            "",
        ),
        (
            "kerberos at once",
            "an old ticket is nobody's, user to user",
            "    realm.check_since(server, part.auth_time)\n",
            "",
        ),
    ),
    *of(
        "kdc/kerberos/as_exchange.py",
        "tests.server.test_kerberos",
        (
            "kerberos at once",
            "policy is asked for a first ticket",
            "    realm.check_permitted(client, server)\n",
            "",
        ),
    ),
    *of(
        "kdc/kerberos_store.py",
        "tests.server.test_kerberos tests.admin.test_kerberos",
        (
            "kerberos people",
            "the realm's own record is nobody's",
            "own = record is not None and record.status is Status.DISABLED and not record.verify_key",
            "own = record is not None",
        ),
        (
            "kerberos people",
            "reserved names are no clients",
            "return None if components[0] in RESERVED else check_name(components[0])",
            "return check_name(components[0])",
        ),
        (
            "kerberos people",
            "a name in two ways is one of them",
            '        if any("/" in part for part in components):\n            return None\n',
            "",
        ),
        (
            "kerberos people",
            "nobody without a keytab is a service",
            "is_service=part is not None,",
            "is_service=True,",
        ),
        (
            "kerberos at once",
            "the disabled are told apart",
            "disabled=record.status is Status.DISABLED,",
            "disabled=False,",
        ),
        (
            "kerberos at once",
            "whose time is over",
            "expiration=record.expiry_time or None,",
            "expiration=None,",
        ),
        (
            "kerberos at once",
            "the realm's old keys go",
            "if superseded is None or now - superseded <= keep_seconds:",
            "if True:",
        ),
        (
            "kerberos people",
            "of a machine's keys two versions stay",
            "if k.kvno > kvno - _VERSIONS_KEPT)",
            "if k.kvno)",
        ),
    ),
    *of(
        "kdc/server/_kerberos_ports.py",
        "tests.server.test_kerberos_ports",
        (
            "kerberos strangers",
            "a length beyond 64 KiB",
            "        if length > _MAX_REQUEST:  # the reserved highest bit included",
            "        if False:",
        ),
        (
            "kerberos strangers",
            "who is silent goes",
            "        self._late.within(self._factory.realm.settings.request_seconds, self.drop)\n",
            "",
        ),
        (
            "kerberos strangers",
            "who says nothing more goes",
            "        self._late.within(realm.settings.idle_seconds, self.drop)\n",
            "",
        ),
        (
            "kerberos strangers",
            "who does not read is answered no more",
            "        if not self._reads:\n",
            "        if False:\n",
        ),
        (
            "kerberos strangers",
            "of who does not read nothing more is read",
            "            self._transport.pauseProducing()\n            return\n",
            "            return\n",
        ),
        (
            "kerberos strangers",
            "a datagram from nowhere",
            "        except OSError:\n",
            "        except KeyError:\n",
        ),
        (
            "kerberos strangers",
            "a few datagrams in a turn",
            "        if self._taken == _IN_A_TURN:\n",
            "        if False:\n",
        ),
        (
            "kerberos strangers",
            "one request in a turn",
            "self._due = self._factory.timers.callLater(0, self._turn, length)",
            "self._turn(length)",
        ),
        (
            "kerberos strangers",
            "a crowd makes room",
            "        if displaced is not None:\n            displaced.drop()\n",
            "",
        ),
        (
            "kerberos strangers",
            "requests of an address are limited by TCP, too",
            "        if not realm.may_ask(self._address):",
            "        if False:",
        ),
    ),
    *of(
        "kdc/server/_kerberos_receiver.py",
        "tests.server.test_kerberos_receiver",
        (
            "kerberos people",
            "nobody gets another one's service",
            "        if strange:\n",
            "        if False:\n",
        ),
        (
            "kerberos at once",
            "who asks is in good standing",
            "        self.realm.realm.client(name, int(self.realm.wall()))\n",
            "",
        ),
        (
            "kerberos people",
            "a question has an end",
            "        if len(self._question) > MAX_QUESTION:\n",
            "        if False:\n",
        ),
        (
            "kerberos people",
            "questions are charged for",
            "            if wait:\n",
            "            if False:\n",
        ),
    ),
    *of(
        "kdc/commands/client/kinit.py",
        "tests.server.test_kerberos_receiver",
        (
            "kerberos people",
            "a ticket is our own",
            "    if len(credentials) != 1 or client != own:",
            "    if len(credentials) != 1:",
        ),
        (
            "kerberos people",
            "a ticket is for the realm's service",
            "if credential.client != own or credential.server != tgs:",
            "if credential.client != own:",
        ),
    ),
    *of(
        "kdc/admin/principals.py",
        "tests.admin.test_kerberos",
        (
            "kerberos people",
            "the realm's own names are not given away",
            "        _check_not_own(store, request)\n",
            "        pass\n",
        ),
    ),
    *of(
        "kdc/admin/kerberos.py",
        "tests.admin.test_kerberos",
        (
            "kerberos people",
            "an operator gives out services that are there",
            "    if strange:\n",
            "    if False:\n",
        ),
        (
            "kerberos people",
            "a name that is somebody's is not taken for the realm",
            "        if record is not None and not _is_own(record):\n",
            "        if False:\n",
        ),
    ),
    *of(
        "kdc/protocol/kerberos.py",
        "tests.protocol.test_kerberos",
        (
            "kerberos people",
            "a question in its one form",
            "        if encode_question(wanted) != data:\n",
            "        if False:\n",
        ),
        (
            "kerberos people",
            "an answer in its one form",
            '        if _json({"text": text, "hint": hint}) != data[1:]:\n',
            "        if False:\n",
        ),
    ),
]
