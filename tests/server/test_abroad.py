"""The status port where other machines reach it: its own certificate, a token, a form to log in."""

from __future__ import annotations

import datetime as dt
import hashlib
import socket
import ssl
import urllib.parse
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from kdc.server.certificate import make_certificate
from kdc.watch.answers import SECURITY_HEADERS
from tests.server.test_browser import BrowsingTestCase
from tests.server.test_status import TOKEN

BEARER = {"Authorization": f"Bearer {TOKEN}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def own_address() -> str:
    """An address of this machine that is not loopback, where there is one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # which sends nothing
        except OSError:
            raise SkipTest("this machine has no address but loopback") from None
        return str(probe.getsockname()[0])


class AbroadTestCase(BrowsingTestCase):
    """A KDC whose status port has a certificate of its own, at an address that others reach."""

    def setUp(self) -> None:
        super().setUp()
        key, certificate = make_certificate([own_address()], dt.datetime.now(dt.UTC))
        der = load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
        self.certificate = hashlib.sha256(der).hexdigest()
        self.private("key.pem", key)
        self.private("cert.pem", certificate)
        self.service = self.watched(
            f"ssl:0:privateKey={self.directory}/key.pem:certKey={self.directory}/cert.pem"
            f":interface={own_address()}",
            token_file=self.private("token", TOKEN.encode()),
        )

    def private(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        return path

    def say(self, request: str, body: str = "", **headers: str) -> tuple[str, str]:
        """Ask as what knows nothing of HTTP would; return the head and the body of the answer."""
        where = urllib.parse.urlsplit(self.url("/"))
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2", "http/1.1"])  # as browsers do
        sent = {"Host": where.netloc, "Connection": "close", "Content-Length": str(len(body))}
        lines = [f"{request} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in {**sent, **headers}.items()]
        with (
            socket.create_connection((where.hostname, where.port)) as plain,
            context.wrap_socket(plain) as connection,
        ):
            shown = hashlib.sha256(connection.getpeercert(binary_form=True) or b"")
            self.assertEqual(shown.hexdigest(), self.certificate)
            self.assertEqual(connection.selected_alpn_protocol(), "http/1.1")
            connection.sendall("\r\n".join([*lines, "", body]).encode())
            said = b""
            while piece := connection.recv(65_536):
                said += piece
        head, _, rest = said.decode().partition("\r\n\r\n")
        return head, rest


class ProgramTests(AbroadTestCase):
    async def test_own_certificate(self) -> None:
        """The certificate is the one that was given, not the KDC's; the token is wanted."""
        self.assertTrue(self.url("/").startswith(f"https://{own_address()}:"))
        for path in ("/metrics", "/healthz", "/readyz", "/events", "/script.js"):
            head, _ = await deferToThread(self.say, f"GET {path}")
            self.assertIn("HTTP/1.1 401 Unauthorized\r\n", head)
            self.assertIn('\r\nWWW-Authenticate: Bearer realm="kdc"', head)
        head, body = await deferToThread(self.say, "GET /readyz", **BEARER)
        self.assertIn("HTTP/1.1 200 OK\r\n", head)
        self.assertIn('"status": "ready"', body)

    async def test_headers(self) -> None:
        """Every answer has the headers that keep a browser from doing what was not meant."""
        for request, status in (
            *(
                ("GET /readyz", 200),
                ("HEAD /", 200),
                ("GET /nowhere", 404),
                ("GET /style.css", 200),
            ),
            *(("POST /", 405), ("DELETE /metrics", 405), ("OPTIONS /", 405)),
        ):
            head, _ = await deferToThread(self.say, request, **BEARER)
            self.assertIn(f"HTTP/1.1 {status} ", head)
            lines = head.split("\r\n")
            for name, value in SECURITY_HEADERS:
                self.assertIn(f"{name}: {value}", lines, request)
        for request in ("GET /", "GET /login", "POST /login"):
            head, _ = await deferToThread(self.say, request)
            for name, value in SECURITY_HEADERS:
                self.assertIn(f"{name}: {value}", head.split("\r\n"), request)

    async def test_other_host(self) -> None:
        """Who comes by a name that is not ours is told nothing, with the right token, too."""
        for host in ("evil.example", "localhost.evil.example", "", "a b"):
            head, _ = await deferToThread(self.say, "GET /metrics", **BEARER, Host=host)
            self.assertRegex(head, r"\AHTTP/1.1 4(21|00) ")

    async def test_log_in(self) -> None:
        """The form takes the token, and gives a cookie that is good for looking."""
        head, _ = await deferToThread(self.say, "POST /login", "token=wrong", **FORM)
        self.assertIn("HTTP/1.1 403 ", head)
        self.assertNotIn("Set-Cookie", head)
        head, _ = await deferToThread(self.say, "POST /login", f"token={TOKEN}", **FORM)
        self.assertIn("HTTP/1.1 303 ", head)
        (given,) = [line for line in head.split("\r\n") if line.startswith("Set-Cookie: ")]
        cookie, *attributes = given.removeprefix("Set-Cookie: ").split("; ")
        self.assertEqual(set(attributes), {"Path=/", "HttpOnly", "SameSite=Strict", "Secure"})
        head, page = await deferToThread(self.say, "GET /", Cookie=cookie)
        self.assertIn("HTTP/1.1 200 ", head)
        self.assertIn("Everything is well", page)


class BrowserTests(AbroadTestCase):
    async def test_log_in(self) -> None:
        """A person types the token once: a wrong one is told, the right one opens the page."""
        browser = await self.browser(insecure=True)
        run, text = (lambda script: deferToThread(browser.run, script)), browser.text
        await deferToThread(browser.open, self.url("/"))
        self.assertEqual(await run("return location.pathname"), "/login")
        self.assertEqual(await deferToThread(text, "label"), "Token")

        def enter(token: str) -> str:
            fill = f"document.getElementById('token').value = '{token}';"
            return f"{fill} document.querySelector('button').click()"

        await run(enter("not-the-token-at-all"))
        await self.until(browser, "return !!document.querySelector('[role=alert]')")
        self.assertIn("not the token", await deferToThread(text, "[role=alert]"))
        self.assertEqual(await deferToThread(browser.cookies), [])
        await run(enter(TOKEN))
        await self.until(browser, "return location.pathname === '/'")
        await self.until(browser, "return document.getElementById('live').innerText === 'Live.'")
        (cookie,) = await deferToThread(browser.cookies)
        self.assertEqual(
            (cookie["sameSite"], cookie["httpOnly"], cookie["secure"]), ("Strict", True, True)
        )
        self.assertNotIn(TOKEN, cookie["value"])
        # Of no use to a script, and not sent along from another site's page.
        self.assertEqual(await run("return document.cookie"), "")
        await deferToThread(browser.open, f"data:text/html,<a id=there href={self.url('/')}>x</a>")
        await run("document.getElementById('there').click()")
        await self.until(browser, "return location.pathname === '/login'")
        await deferToThread(browser.open, self.url("/"))
        self.assertEqual(await run("return location.pathname"), "/")
