"""What is printed for each error: by MIT's programs words of their own, by Heimdal's the KDC's."""

from __future__ import annotations

from kdc.kerberos.errors import ADVICE, Code
from tests.support.realm_programs import RealmTestCase
from tests.testing.test_other_programs import HeimdalCase

MIT = {
    Code.CLIENT_EXPIRED: "Client's entry in database has expired",
    Code.SERVER_EXPIRED: "Server's entry in database has expired",
    Code.BAD_VERSION: "Requested protocol version not supported",
    Code.CLIENT_UNKNOWN: "Client not found in Kerberos database",
    Code.SERVER_UNKNOWN: "not found in Kerberos database",
    Code.CANNOT_POSTDATE: "Ticket is ineligible for postdating",
    Code.NEVER_VALID: "Requested effective lifetime is negative or too short",
    Code.POLICY: "KDC policy rejects request",
    Code.BAD_OPTION: "KDC can't fulfill requested option",
    Code.NO_ETYPE: "KDC has no support for encryption type",
    Code.PADATA_TYPE: "KDC has no support for padata type",
    Code.CLIENT_REVOKED: "Client's credentials have been revoked",
    Code.KEY_EXPIRED: "Password has expired",
    Code.PREAUTH_FAILED: "Preauthentication failed",
    Code.PREAUTH_REQUIRED: "Additional pre-authentication required",
    Code.SERVER_NOMATCH: "Requested server and ticket don't match",
    Code.MUST_USE_USER_TO_USER: "Server principal valid for user2user only",
    Code.BAD_INTEGRITY: "Decrypt integrity check failed",
    Code.TICKET_EXPIRED: "Ticket expired",
    Code.TICKET_NOT_YET_VALID: "Ticket not yet valid",
    Code.REPEATED: "Request is a replay",
    Code.NOT_US: "The ticket isn't for us",
    Code.BAD_MATCH: "Ticket/authenticator don't match",
    Code.SKEW: "Clock skew too great",
    Code.MODIFIED: "Message stream modified",
    Code.BAD_KEY_VERSION: "Key version is not available",
    Code.INAPPROPRIATE_CHECKSUM: "Inappropriate type of checksum in message",
    Code.TOO_BIG: "Response too big for UDP, retry with TCP",
    Code.GENERIC: "KDC returned error string: this answer was ordered by the test: {}",
    Code.FIELD_TOO_LONG: "Field is too long for this implementation",
    Code.WRONG_REALM: "Realm not local to KDC",
    Code.UNKNOWN_FAST_OPTION: "An unsupported critical FAST option was requested",
}
# After these Heimdal asks again, another way, and has its ticket.
HEIMDAL_GOES_ON = {Code.PREAUTH_FAILED, Code.TOO_BIG}
# And here it knows better what it is about.
HEIMDAL = {
    Code.KEY_EXPIRED: "Password has expired",
    Code.PREAUTH_REQUIRED: "Preauth required but no preauth options send by KDC",
    Code.BAD_INTEGRITY: "Password incorrect",
    Code.MODIFIED: "Password incorrect",
}


class MITTests(RealmTestCase):
    def test_each(self) -> None:
        """The second time: of the first it hopes that other options would do."""
        for code in Code:
            self.alice.kinit()
            if code is Code.SERVICE_UNAVAILABLE:  # as if packets were lost: it asks again
                self.realm.fail_next(error=code)
                self.run_program("kvno HTTP/localhost")
                continue
            self.realm.fail_next(error=code, times=2)
            said = self.run_program("kvno HTTP/localhost", status=1)
            self.assertIn(MIT[code].format(ADVICE[code]), said)
            self.assertEqual(len(said.splitlines()), 1)


class HeimdalTests(HeimdalCase):
    def test_each(self) -> None:
        """What happened, and what to do about it."""
        password = self.realm.directory / "password"
        password.write_text("pw\n", "utf-8")
        line = f"kinit.heimdal --password-file={password} alice"
        for code in set(Code) - {Code.SERVICE_UNAVAILABLE}:  # it waits long for another KDC
            self.realm.fail_next(error=code)
            if code in HEIMDAL_GOES_ON:
                self.heimdal(line)
                continue
            said = self.heimdal(line, status=1)
            ours = f"this answer was ordered by the test: {ADVICE[code]}"
            self.assertIn(HEIMDAL.get(code, ours), said)
