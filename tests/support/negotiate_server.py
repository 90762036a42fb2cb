"""A web server that wants Kerberos (RFC 4559) and says who came, for a Python that has gssapi.

It prints its port; the key of HTTP/localhost is in the keytab of its environment.
"""

from __future__ import annotations

import base64
import http.server

import gssapi  # type: ignore[import-not-found]

_HERE = gssapi.Name("HTTP@localhost", gssapi.NameType.hostbased_service)


class _Visit(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Negotiate":
            self._answer(401, "Negotiate", "")
            return
        context = gssapi.SecurityContext(usage="accept")
        answer = context.step(base64.b64decode(token))
        said = f"{context.initiator_name} came"
        if context.delegated_creds is not None:
            # What was handed over is good for the next ticket.
            onward = gssapi.SecurityContext(name=_HERE, creds=context.delegated_creds)
            onward.step()
            said += f", and goes on as {context.delegated_creds.name}"
        self._answer(200, "Negotiate " + base64.b64encode(answer).decode(), said + "\n")

    def _answer(self, status: int, asked: str, said: str) -> None:
        self.send_response(status)
        self.send_header("WWW-Authenticate", asked)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said.encode())


if __name__ == "__main__":
    server = http.server.HTTPServer(("127.0.0.1", 0), _Visit)
    print(f"port {server.server_port}", flush=True)
    server.serve_forever()
