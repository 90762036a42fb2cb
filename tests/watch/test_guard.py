"""Who may look at the status port, and who may not."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import ConfigurationError
from kdc.watch.answers import Answer, Query
from kdc.watch.guard import Guard
from kdc.watch.settings import StatusSettings

TOKEN = b"0123456789abcdef0123"


def query(path: str = "/metrics", method: str = "GET", **more: str) -> Query:
    return Query(method, path, **{"host": "localhost:9464", **more})  # type: ignore[arg-type]


class HostTests(SynchronousTestCase):
    def test_hosts(self) -> None:
        """Our names, this machine's, and addresses, which no name can be rebound to."""
        guard = Guard(None, hosts=["kdc.example.org"], random=bytes)
        for host in (
            *("localhost", "LOCALHOST:1", "127.0.0.1:9464", "[::1]:9464", "10.0.0.1"),
            *("kdc.example.org", "KDC.example.org:9464"),
        ):
            self.assertIsNone(guard.refusal(query(host=host), 0), host)
        for host in ("evil.example", "127.0.0.1.evil.example", "kdc.example.org.evil", "", "?"):
            answer = guard.refusal(query(host=host), 0)
            self.assertEqual(answer and answer.status, 421, host)

    def test_reading_only(self) -> None:
        """Nothing can be changed, so nothing else is understood."""
        guard = Guard(None, random=bytes)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "get", ""):
            for path in ("/", "/metrics", "/login"):
                answer = guard.refusal(query(path, method), 0)
                self.assertEqual(answer and answer.status, 405, (method, path))
        self.assertIsNone(guard.refusal(query(method="HEAD"), 0))


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.guard = Guard(TOKEN, secure=True, random=lambda count: b"r" * count)

    def status(self, now: int = 0, **more: str) -> int:
        answer = self.guard.refusal(query(**more), now)
        return 200 if answer is None else answer.status

    def log_in(self, token: bytes, now: int = 0) -> Answer:
        asked = Query("POST", "/login", host="localhost", body=b"token=" + token)
        answer = self.guard.refusal(asked, now)
        assert answer is not None
        return answer

    def test_bearer(self) -> None:
        """The whole token, and nothing that is nearly it."""
        self.assertEqual(self.status(authorization=f"Bearer {TOKEN.decode()}"), 200)
        for wrong in ("", "Bearer", "Bearer ", f"Bearer {TOKEN.decode()[:-1]}", TOKEN.decode()):
            self.assertEqual(self.status(authorization=wrong), 401, wrong)

    def test_each_path(self) -> None:
        """Everything needs it; the page leads to where one logs in."""
        for path in ("/metrics", "/readyz", "/healthz", "/events", "/nowhere", "/script.js"):
            self.assertEqual(self.status(path=path), 401, path)
        self.assertEqual(self.status(path="/"), 303)

    def test_guessing(self) -> None:
        """After ten wrong tokens more are refused, from there; who has the right one gets in."""

        def guess(now: int = 0, address: str = "10.0.0.1") -> int:
            return self.status(now, authorization="Bearer x", address=address)

        self.assertEqual([guess() for _ in range(11)], [401] * 10 + [429])
        right = f"Bearer {TOKEN.decode()}"
        self.assertEqual(self.status(authorization=right, address="10.0.0.1"), 200)
        self.assertEqual(guess(address="10.0.0.2"), 401)
        self.assertEqual(guess(60_000), 401)

    def test_log_in(self) -> None:
        """The cookie is of this site, of no script and of TLS only, and is not the token."""
        answer = self.log_in(TOKEN)
        headers = dict(answer.headers)
        cookie, *attributes = headers["Set-Cookie"].split("; ")
        self.assertEqual(set(attributes), {"Path=/", "HttpOnly", "SameSite=Strict", "Secure"})
        self.assertEqual((answer.status, headers["Location"]), (303, "/"))
        self.assertNotIn(TOKEN.decode(), headers["Set-Cookie"])
        self.assertEqual(self.status(path="/", cookie=f"other=1; {cookie}"), 200)
        half_a_day = 12 * 3600 * 1000
        self.assertEqual(self.status(half_a_day, path="/metrics", cookie=cookie), 401)
        for wrong in ("kdc_status=", f"{cookie[:-1]}0", cookie[:-2], "kdc_status=" + "0" * 64):
            self.assertEqual(self.status(path="/metrics", cookie=wrong), 401, wrong)

    def test_wrong_token(self) -> None:
        """The form comes again, and says so; after ten tries a wrong one has to wait."""
        for _ in range(10):
            answer = self.log_in(b"wrong")
            self.assertEqual((answer.status, answer.headers), (403, ()))
        self.assertIn(b"not the token", answer.body)
        self.assertEqual(self.log_in(b"wrong").status, 429)
        self.assertEqual(self.log_in(TOKEN).status, 303)

    def test_many_log_ins(self) -> None:
        """Who logs in again and again takes no more room than some do."""
        numbers = iter(range(1000))
        guard = Guard(TOKEN, random=lambda count: next(numbers).to_bytes(count, "big"))
        asked = Query("POST", "/login", host="localhost", body=b"token=" + TOKEN)
        answers = [guard.refusal(asked, 0) for _ in range(100)]
        cookies = [dict(a.headers)["Set-Cookie"].partition(";")[0] for a in answers if a]
        good = [guard.refusal(query(cookie=cookie), 0) is None for cookie in cookies]
        self.assertEqual((good.count(True), good[-1], good[0]), (64, True, False))


class SettingsTests(SynchronousTestCase):
    def token_file(self, content: bytes, mode: int = 0o600) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def test_local_needs_nothing(self) -> None:
        for endpoint in ("unix:/tmp/s", "tcp:9464:interface=127.0.0.1", "tcp6:1:interface=\\:\\:1"):
            self.assertIsNone(StatusSettings(endpoint).token(), endpoint)

    def test_others_need_a_token(self) -> None:
        """Wherever another machine could connect, or nobody knows."""
        for endpoint in ("tcp:9464", "tcp6:9464", "tcp:1:interface=0.0.0.0", "ssl:1", "systemd:x"):
            settings = StatusSettings(endpoint)
            self.assertRaisesRegex(ConfigurationError, "needs a token", settings.token)
            good = StatusSettings(endpoint, self.token_file(TOKEN + b"\n"))
            self.assertEqual(good.token(), TOKEN)

    def test_bad_tokens(self) -> None:
        """What others can read, what can be guessed, and what no header can hold."""
        bad = ((TOKEN, 0o644), (b"short", 0o600), (b"a b" * 20, 0o600), (b"", 0o600))
        for content, mode in bad:
            settings = StatusSettings("tcp:1", self.token_file(content, mode))
            error = self.assertRaises(ConfigurationError, settings.token)
            self.assertNotIn(content.decode() or "-", str(error))
