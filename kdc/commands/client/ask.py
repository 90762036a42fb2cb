"""Questions that are answered on standard output: who, whoami, doctor."""

from __future__ import annotations

import json
from typing import Any

import attrs

from kdc.client.membership import make_client, whoami
from kdc.client.settings import client_settings
from kdc.commands.client.doctor import Finding, examine, seen_by_others
from kdc.commands.client.options import PROGRAM, ClientOptions
from kdc.commands.client.who import everybody, who
from kdc.commands.options import name_of, whole_number
from kdc.errors import ExitStatus, KDCError
from kdc.net.exit_status import run_to_end, say
from kdc.net.threads import in_thread
from kdc.protocol.directory import DIRECTORY
from kdc.terminal import answer as answer_line
from kdc.terminal import harmless

__all__ = ["Doctor", "Who", "Whoami"]


class _Asking(ClientOptions):
    """A command that prints an answer."""

    optFlags = [["json", None, "answer in JSON"]]

    def print(self, answer: dict[str, Any]) -> None:
        if self["json"]:
            print(json.dumps(answer))
        else:
            for key, value in answer.items():
                answer_line(f"{key}: {harmless(str(value))}")


class Whoami(_Asking):
    """``whoami``"""

    synopsis = "kdcclient whoami -n NAME -a HOST -p PORT"
    longdesc = "Say what we are to the KDC, and which KDC it is."

    def run(self) -> int:
        from twisted.internet import reactor

        client = make_client(reactor, client_settings(self))

        async def ask() -> int:
            self.print(await whoami(client))
            return 0

        return run_to_end(PROGRAM, reactor, ask)


class Who(_Asking):
    """``who [NAME...]``"""

    synopsis = "kdcclient who -n NAME -a HOST -p PORT [PEER...]"
    longdesc = (
        "Say which of these are registered, and which can be reached now; without names,"
        " everybody whom we may send to, as far as this KDC has a directory.  With --json each"
        " is a line."
    )
    optParameters = [
        ["directory", None, DIRECTORY, "the name of the directory, if this KDC calls it otherwise"]
    ]

    def parseArgs(self, *names: str) -> None:
        self["names"] = tuple(map(name_of, names))

    def run(self) -> int:
        from twisted.internet import reactor

        client = make_client(reactor, client_settings(self))

        async def ask() -> int:
            more = False
            if self["names"]:
                found = await who(client, self["names"])
            else:
                found, more = await everybody(client, name_of(self["directory"]))
            for each in found:
                answer_line(json.dumps(attrs.asdict(each)) if self["json"] else str(each))
            if more:
                say("there are more than a directory tells at once; name whom you mean")
            return 0

        return run_to_end(PROGRAM, reactor, ask)


class Doctor(_Asking):
    """``doctor``"""

    synopsis = "kdcclient doctor -n NAME -a HOST -p PORT"
    longdesc = "Look at everything that has to be right, and say what to do about what is not."
    optParameters = [["listen-port", None, "60000", "the port of our receiver"]]

    def run(self) -> int:
        from twisted.internet import reactor

        port = whole_number(self["listen-port"], 1, 65535, "a port")
        settings = client_settings(self)
        findings = list(examine(settings, port))
        if all(finding.error is None for finding in findings):
            try:
                client = make_client(reactor, settings)
            except KDCError as error:
                findings.append(Finding("secret", str(error), error))
            else:
                run_to_end(PROGRAM, reactor, lambda: self._register_check(client, findings))
        for finding in findings:
            self._tell(finding)
        return int(next((f.status for f in findings if f.error is not None), ExitStatus.DONE))

    async def _register_check(self, client: Any, findings: list[Finding]) -> int:
        what = "our registration"
        try:
            found = await whoami(client)
        except KDCError as error:
            findings.append(Finding(what, str(error), error))
        else:
            findings.append(Finding(what, f"version {found['generation']} of our record"))
            await self._receiver_check(client, findings)
        return 0

    async def _receiver_check(self, client: Any, findings: list[Finding]) -> None:
        """Where the KDC sends others, if it has a directory that tells us."""
        try:
            found, _ = await everybody(client, DIRECTORY)
        except KDCError:
            return
        for own in found:
            if own.name == client.keys.name and own.address:
                run = in_thread(client.reactor)
                findings.append(await run(seen_by_others, own.address, own.port))

    def _tell(self, finding: Finding) -> None:
        hint = "" if finding.error is None else finding.error.hint
        if self["json"]:
            row = {"what": finding.what, "found": finding.found, "ok": finding.error is None}
            print(json.dumps({**row, "hint": hint}))
            return
        good = "ok  " if finding.error is None else "FAIL"
        answer_line(f"{good} {finding.what}: {harmless(finding.found)}")
        if hint:
            answer_line(f"       {hint}")
