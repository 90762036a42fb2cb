"""What a KDC shows on its page: its own state, by pages of a hundred, however many there are."""

from __future__ import annotations

from typing import Any

from kdc.server._page import KDCView
from kdc.store import Create, Record, Status
from kdc.watch.settings import StatusSettings
from kdc.watch.view import Filter
from tests.server.test_service import LOOPBACK, PUBLIC
from tests.server.test_status import StatusTestCase


class PageTests(StatusTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.service = self.start(self.settings(status=StatusSettings(LOOPBACK)))

    def view(self) -> KDCView:
        status: Any = self.service._status
        view: KDCView = status._page._watched
        return view

    def fill(self, *names: str, status: Status = Status.ACTIVE) -> None:
        keys: dict[str, Any] = {"verify_key": bytes(32), "reply_key": bytes(32)}
        for start in range(0, len(names), 1000):
            self.service.store.apply(
                [Create(Record(name, status, **keys), bytes(16)) for name in names[start:][:1000]]
            )

    async def test_what_was_done(self) -> None:
        """Who receives, what was issued, and the line that says so."""
        alice = await self.registered(self.service, "alice")
        bob = await self.registered(self.service, "bob")
        await bob.receive_under(PUBLIC, "127.0.0.1", 60000)
        await alice.request_key("bob")
        await self.service.audit.flush()
        status, body = await self.get("/")
        self.assertEqual(status, 200)
        page = body.decode()
        self.assertIn("<dt>keys issued</dt><dd>1</dd>", page)
        self.assertIn('<th scope="row">bob</th><td>127.0.0.1 port 60000</td>', page)
        self.assertIn("<span>issued</span> <span>alice</span> <span>127.0.0.1</span>", page)
        self.assertIn(self.service.tls.fingerprint, page)
        self.assertIn("Everything is well", page)

    async def test_pages(self) -> None:
        """A hundred at a time; each name is on one page, and the last has no more."""
        names = sorted(f"n{number:05}" for number in range(250))
        self.fill(*names)
        seen, after = [], ""
        for count in (100, 100, 50):
            found = await self.view().find(Filter(after=after))
            self.assertEqual(len(found.principals), count)
            seen += [each.name for each in found.principals]
            after = found.more
        self.assertEqual((seen, after), (names, ""))

    async def test_search(self) -> None:
        """By how a name begins, and by status; few among many are found page by page."""
        self.fill(*(f"m{number:06}" for number in range(45_000)))
        self.fill("m9-gone", "zoe", status=Status.DISABLED)
        found = await self.view().find(Filter(name="m04499"))
        self.assertEqual([p.name[-1] for p in found.principals], list("0123456789"))
        found, pages = await self.view().find(Filter(status="disabled")), 1
        while not found.principals:
            found, pages = await self.view().find(Filter(status="disabled", after=found.more)), 2
        self.assertEqual([p.name for p in found.principals], ["m9-gone", "zoe"])
        self.assertEqual(pages, 2)
        self.assertEqual((await self.view().find(Filter(name="nobody"))).principals, [])

    async def test_fast_with_many(self) -> None:
        """A page looks at so many records, wherever it begins."""
        names = [f"m{number:06}" for number in range(30_000)]
        self.fill(*names)
        looked_at = 0
        store = self.service.store
        inner = store.names_from

        def counted(name: str) -> Any:
            nonlocal looked_at
            for record in inner(name):
                looked_at += 1
                yield record

        self.patch(store, "names_from", counted)
        found = await self.view().find(Filter(name="m029990"))
        self.assertEqual(len(found.principals), 1)
        self.assertLess(looked_at, 5)
