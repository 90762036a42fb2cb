"""Takes the pictures of the status page, docs/status-*.png, of a realm that is made up.

    python docs/recorders/record_status_page.py

Needs Chromium and its driver (Debian: chromium, chromium-driver).
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP))

from twisted.internet import reactor as _reactor  # noqa: E402

from kdc.watch._http import StatusFactory  # noqa: E402
from kdc.watch.history import Minute  # noqa: E402
from kdc.watch.page import StatusPage  # noqa: E402
from kdc.watch.view import Filter, Found, Live, LogLine, Principal, Receiver  # noqa: E402
from tests.support.browser import Browser  # noqa: E402

PICTURES: dict[str, dict[str, Any]] = {
    "status-light.png": {},
    "status-dark.png": {"dark": True},
    "status-phone.png": {"width": 390},
}
_WEB = [f"web{number}" for number in range(1, 9)]


class Realm:
    """What a small realm looks like on an ordinary morning."""

    title = "KDC of EXAMPLE.ORG"

    def live(self) -> Live:
        counts = [40 + (place * 37) % 50 + 3 * place for place in range(60)]
        return Live(
            facts={
                "Now": [
                    ("keys issued", "48,211"),
                    ("names registered", "12"),
                    ("log-ins", "1,904"),
                    ("failed log-ins", "3"),
                    ("connections", "31, 1 of them unproved"),
                ],
                "Store": [("principals", "1,204"), ("latest change", "3,119"), ("folds", "12")],
                "Certificate": [("fingerprint", "sha256:" + "4f" * 32), ("ends", "2056-11-19")],
                "Limits": [("keys per second", "50"), ("keys burst", "500")],
                "Relay": [("links", "4"), ("joined", "2"), ("bytes", "81,204,992")],
            },
            receivers=[Receiver(name, "10.4.5.11 port 60000", 4000) for name in _WEB],
            receiving=len(_WEB),
            minutes=[Minute(count, 0.0001, 0.00025) for count in counts],
            refusals=[("not_receiving", 14), ("not_authentic", 3)],
            troubles=[],
        )

    def second(self) -> None:
        """Nothing changes here."""

    def lines(self, wanted: object, most: int) -> list[LogLine]:
        return [
            LogLine(f"2026-11-27T09:14:{59 - n:02}Z", "issued", "alice", "10.4.5.9", name)
            for n, name in enumerate(_WEB)
        ]

    def lines_after(self, number: int) -> tuple[int, list[LogLine]]:
        return 0, []

    async def find(self, wanted: Filter) -> Found:
        changed = "2026-11-20T10:00:00Z"
        return Found([Principal(name, "active", "10.4.5.11", changed) for name in _WEB], "web8")


def main() -> None:
    reactor: Any = _reactor
    page = StatusPage(Realm())
    port = reactor.listenTCP(0, StatusFactory(page.answer, reactor), interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}/"

    def take() -> None:
        for name, how in PICTURES.items():
            browser = Browser(**how)
            try:
                browser.open(url)
                time.sleep(1)  # for the first events
                (TOP / "docs" / name).write_bytes(browser.picture())
            finally:
                browser.close()
        reactor.callFromThread(reactor.stop)

    threading.Thread(target=take).start()
    reactor.run()


if __name__ == "__main__":
    main()
