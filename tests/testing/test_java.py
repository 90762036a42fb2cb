"""Java's Krb5LoginModule against the realm, by password; by ticket and keytab: `test_examples`."""

from __future__ import annotations

from tests.support.realm_programs import RealmTestCase

# The password is typed; what follows is what came of it.
LOGIN = """
import com.sun.security.auth.callback.TextCallbackHandler;
import javax.security.auth.Subject;
import javax.security.auth.kerberos.KerberosTicket;
import javax.security.auth.login.LoginContext;

public class Password {
    public static void main(String[] arguments) throws Exception {
        LoginContext context = new LoginContext("person", new TextCallbackHandler());
        context.login();
        Subject person = context.getSubject();
        for (KerberosTicket ticket : person.getPrivateCredentials(KerberosTicket.class))
            System.out.println(ticket.getClient() + " type " + ticket.getSessionKeyType());
    }
}
"""
CONFIGURATION = """
person { com.sun.security.auth.module.Krb5LoginModule required principal="alice"; };
"""


class JavaTests(RealmTestCase):
    needs = ("java",)
    package = "openjdk-17-jre-headless"

    def log_in(self, password: str, status: int = 0) -> str:
        directory = self.realm.directory
        program, configuration = directory / "Password.java", directory / "jaas.conf"
        program.write_text(LOGIN, "utf-8")
        configuration.write_text(CONFIGURATION, "utf-8")
        argv = [
            "java",
            f"-Djava.security.krb5.conf={self.realm.krb5_config}",
            f"-Djava.security.auth.login.config={configuration}",
            str(program),
        ]
        return self.run_argv(argv, f"{password}\n", status)

    def test_password(self) -> None:
        """With the types of RFC 3962 and of RFC 8009."""
        for etype in (18, 20):
            self.realm = self.new_realm(etypes=(etype,))
            self.realm.user("alice", "pw")
            self.assertIn(f"alice@KRBTEST.COM type {etype}\n", self.log_in("pw"))

    def test_wrong_password(self) -> None:
        """It is told why, in the words of the KDC."""
        said = self.log_in("no", 1)
        self.assertIn("(24)", said)
        self.assertIn("did not prove to have the right key: check the password or the keytab", said)
