"""The status page in a real browser: 10,000 principals, 200 who are receiving, hostile texts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from kdc.issuing.decisions import Audit
from kdc.issuing.realm import Epoch
from kdc.store import Create, Record, Status
from kdc.watch.settings import StatusSettings
from tests.server.test_service import LOOPBACK
from tests.server.test_status import StatusTestCase
from tests.support.browser import Browser, axe_source
from tests.support.processes import PATIENCE_SECONDS

HOSTILE = (
    "<img src=x onerror=window.hacked=1>",
    "<script>window.hacked=1</script>",
    "\u202egnp.exe",
    "a" * 5000,
)


class BrowsingTestCase(StatusTestCase):
    async def browser(self, **how: Any) -> Browser:
        try:
            browser = await deferToThread(Browser, **how)
        except FileNotFoundError as error:
            raise SkipTest(f"not installed: {error}") from None
        self.addCleanup(deferToThread, browser.close)
        return browser

    async def until(self, browser: Browser, script: str, *arguments: object) -> None:
        """Wait until ``script`` returns what is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await deferToThread(browser.run, script, *arguments):
            if time.monotonic() > deadline:
                self.fail(f"still not: {script}")
            await self.sleep(0.1)


class BrowserTestCase(BrowsingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.service = self.start(self.settings(status=StatusSettings(LOOPBACK)))

    def fill(self, principals: int, receivers: int) -> None:
        keys: dict[str, Any] = {"verify_key": bytes(32), "reply_key": bytes(32)}
        names = [f"host-{number:05}" for number in range(principals)]
        for start in range(0, principals, 1000):
            self.service.store.apply(
                [
                    Create(Record(name, Status.ACTIVE, "10.0.0.1", 60000, **keys), bytes(16))
                    for name in names[start : start + 1000]
                ]
            )
        for name in names[:receivers]:
            self.receives(name)

    def receives(self, name: str) -> None:
        realm = self.service.factory.issuer.realm
        there: Any = None
        epoch = Epoch(bytes(16), "10.0.0.1", 60000, 0, there, there, there)
        realm.begin_epoch(name, epoch)

    def note(self, event: str, name: str, detail: str = "") -> None:
        self.service.factory.issuer.realm.audit(Audit(event, name, "10.0.0.1", detail))


class BrowserTests(BrowserTestCase):
    async def test_page(self) -> None:
        """Events appear without a reload, the search finds, hostile texts do nothing."""
        self.fill(10_000, 200)
        browser = await self.browser()
        await deferToThread(browser.open, self.url("/"))
        await self.until(browser, "return document.getElementById('live').innerText === 'Live.'")
        self.assertIn("200 of 200", await deferToThread(browser.text, "#receivers"))
        self.note("registered", "host-00001", "host-00002")
        await self.until(
            browser, "return document.getElementById('log').innerText.includes('host-00002')"
        )
        await self.until(
            browser,
            "return document.getElementById('facts-now').innerText.includes('registered\\n1')",
        )
        for text in HOSTILE:
            self.note("refused", "", f"MALFORMED {text}")
            self.receives(text)
        await self.until(browser, "return document.querySelectorAll('#log li').length >= 5")
        await self.until(
            browser, "return document.getElementById('receivers').innerText.includes('204')"
        )
        self.assertIsNone(await deferToThread(browser.run, "return window.hacked"))
        images = "return document.querySelectorAll('img, main script').length"
        self.assertEqual(await deferToThread(browser.run, images), 0)
        wide = "return document.documentElement.scrollWidth <= innerWidth"
        self.assertTrue(await deferToThread(browser.run, wide))
        await deferToThread(browser.open, self.url("/?name=host-0999&status=active"))
        self.assertIs(await deferToThread(browser.run, "return window.hacked"), None)
        names = "return [...document.querySelectorAll('#h-principals ~ div tbody th')].length"
        self.assertEqual(await deferToThread(browser.run, names), 10)

    async def test_accessible(self) -> None:
        """axe-core finds nothing: light, dark, and as narrow as a phone."""
        try:
            axe = await deferToThread(axe_source, Path(self.mktemp()).absolute())
        except FileNotFoundError as error:
            raise SkipTest(f"not installed: {error}") from None
        self.fill(150, 20)
        self.note("refused", "eve", "NOT_AUTHENTIC eve")
        for how in ({}, {"dark": True}, {"width": 390}):
            browser = await self.browser(**how)
            await deferToThread(browser.open, self.url("/"))
            await deferToThread(browser.run, axe)
            found = await deferToThread(
                browser.run,
                "return axe.run().then(r => JSON.stringify(r.violations.map("
                "v => [v.id, v.nodes.map(n => n.html.slice(0, 200)).slice(0, 3)])))",
            )
            self.assertEqual(json.loads(found), [], how)
            wide = "return document.documentElement.scrollWidth <= innerWidth"
            self.assertTrue(await deferToThread(browser.run, wide), how)
