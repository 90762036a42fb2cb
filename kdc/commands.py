"""The console command ``kdcclient``: the origin's flags, and one word a task."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.python import usage

from kdc import config
from kdc.client_app import (
    change_secret,
    join,
    make_client,
    register,
    who,
    whoami,
)
from kdc.client_options import ClientOptions, client_settings, name_of
from kdc.client_tap import (
    DEFAULT_LISTEN_PORT,
    ReceiverOptions,
    SenderOptions,
    TunnelOptions,
    exposed_of,
    receive_settings,
    send_settings,
    tunnel_settings,
)
from kdc.completion import SHELLS, script_for
from kdc.doctor import Finding, examine
from kdc.errors import ConfigurationError, ExitStatus, KDCError
from kdc.invitation import Invitation, read_invitation
from kdc.items import safe_name
from kdc.options import Command, absolute, local_endpoint, whole_number
from kdc.optiontable import table_of
from kdc.outgoing import STDIN, Thing, things_of
from kdc.partial import local_error
from kdc.receive_app import Receiver
from kdc.running import run_to_end, say
from kdc.secret import SecretSource, ask, has_terminal, write_key_file
from kdc.send_app import SendSettings, send
from kdc.tunnel_app import Forwarded, Tunnels, TunnelSettings, pipe

__all__ = ["Options"]

_PROGRAM = "kdcclient"


class Receive(ReceiverOptions):
    """``receive``: until stopped, or once."""

    synopsis = "kdcclient receive -n NAME -a HOST -p PORT [-o FILE | --inbox DIR] [options]"
    longdesc = (
        "Register if the name is new, then receive what others send.  At a terminal it asks"
        " whether something is wanted, unless --yes or one of the rules --allow, --accept-from"
        " and --max-size is given."
    )
    optFlags = [["yes", "y", "take everything without asking"]]

    def run(self) -> int:
        rules = ("yes", "allow", "accept-from", "max-size")
        ask = not any(self.get(rule) for rule in rules) and sys.stdin.isatty() and has_terminal()
        return _receive(self, once=bool(self["once"]), ask=ask)


class Send(ClientOptions):
    """``send RECEIVER[,RECEIVER...] FILE...``"""

    synopsis = (
        "kdcclient send -n NAME -a HOST -p PORT RECEIVER[,RECEIVER...]"
        " FILE|DIR|-... | --text TEXT [options]"
    )
    longdesc = (
        "Register if the name is new, then send files and directories, - for standard input,"
        " or a text.  A connection that is cut is tried again, and goes on where it was.  The"
        " exit status is 0 only if each receiver has confirmed that it is on its disk."
    )
    optParameters = [
        ["text", None, None, "send this text"],
        ["as", None, None, "the name that the receiver sees, of standard input or a text"],
    ]
    optFlags = [["wait", "w", "wait until the receiver receives"]]

    def parseArgs(self, receivers: str = "", *files: str) -> None:
        if not receivers or bool(files) == (self["text"] is not None):
            raise usage.UsageError("say what to send to whom: send RECEIVER FILE...")
        self["receivers"] = tuple(dict.fromkeys(map(name_of, receivers.split(","))))
        self["files"] = files

    def run(self) -> int:
        client = client_settings(self)
        things = tuple(things_to_send(self["files"], self["text"], self["as"]))
        return _send(
            SendSettings(client, self["receivers"], things, wait=bool(self["wait"]), retry=True)
        )


def things_to_send(files: Sequence[str], text: str | None, name: str | None) -> list[Thing]:
    """What a person means; raises `usage.UsageError` or `LocalIOError`."""
    if name is not None and len(files) > 1:
        raise usage.UsageError("--as is for one thing, as standard input or a text")
    if text is not None:
        try:
            return [Thing(safe_name(name or "message.txt"), text=text.encode())]
        except ValueError as error:  # undecodable bytes, too
            raise usage.UsageError(str(error)) from None
    if files.count("-") > 1:
        raise usage.UsageError("there is only one standard input")
    paths = [STDIN if file == "-" else absolute(file) for file in files]
    return things_of([path for path in paths if path is not None], name)


class Sender(SenderOptions):
    """``sender``: as ``twistd kdcclient sender``."""

    def run(self) -> int:
        return _send(send_settings(self))


class Register(ClientOptions):
    """``register``: take a name, and nothing else."""

    synopsis = "kdcclient register -n NAME -a HOST -p PORT [options]"
    optParameters = [
        ["listen-port", None, "60000", "the port to register for our receiver"],
        ["invitation-file", None, None, "read the invitation's code from this file"],
    ]

    def run(self) -> int:
        from twisted.internet import reactor

        from kdc.invitation import read_code

        settings = client_settings(self)
        port = whole_number(self["listen-port"], 0, 65535, "a port")
        path = absolute(self["invitation-file"])
        code = b"" if path is None else read_code(path)
        client = make_client(reactor, settings, prompt=f"passphrase for {settings.name}: ")
        if settings.secret.asks:
            again = settings.secret.keys(settings.realm, settings.name, "once more: ")
            if again.verify_key != client.keys.verify_key:
                raise ConfigurationError("the two passphrases differ; nothing was registered")
        return run_to_end(_PROGRAM, reactor, lambda: register(client, port, code))


class Init(Command):
    """``init``: from an invitation to a principal that can send and receive."""

    synopsis = "kdcclient init [--invitation-file FILE] [--key-file FILE | --passphrase] [options]"
    longdesc = (
        "Take the name of an invitation, which is asked for, and write down whatever the other"
        " commands need to know."
    )
    optParameters = [
        ["invitation-file", None, None, "read the invitation from this file (mode 0600)"],
        [
            "key-file",
            None,
            None,
            "our key file, made if it is not there; by default beside the configuration",
        ],
        ["config", None, None, "the configuration to write, instead of the user's own"],
    ]
    optFlags = [
        ["passphrase", None, "ask for a passphrase, each time, instead of a key file"],
        ["force", None, "replace a configuration that is there"],
    ]

    def run(self) -> int:
        from twisted.internet import reactor

        if self["passphrase"] and self["key-file"]:
            raise usage.UsageError("give one of --passphrase and --key-file")
        path = absolute(self["config"]) or config.default_path().absolute()
        # Before the invitation is used up.
        if not self["force"]:
            config.check_free(path)
        invitation = self._invitation()
        _make_directory(path.parent)
        key_file = None if self["passphrase"] else self._key_file(path, invitation.name)
        values = _values_of(invitation, path, key_file)
        settings = client_settings({**values, "key-file": key_file, "config": os.devnull})
        client = make_client(reactor, settings, prompt=f"passphrase for {invitation.name}: ")
        if key_file is None:
            again = settings.secret.keys(settings.realm, settings.name, "once more: ")
            if again.verify_key != client.keys.verify_key:
                raise ConfigurationError("the two passphrases differ; nothing was registered")

        def remember() -> None:
            config.save(path, values)
            say(f"{path}: {invitation.name} at the KDC at {client.where}")

        return run_to_end(
            _PROGRAM,
            reactor,
            lambda: join(client, DEFAULT_LISTEN_PORT, invitation.code, remember),
        )

    def _invitation(self) -> Invitation:
        path = absolute(self["invitation-file"])
        if path is not None:
            return read_invitation(path)
        return Invitation.parse(ask("invitation: ", "invitation", "give --invitation-file"))

    def _key_file(self, config_path: Path, name: str) -> Path:
        path = absolute(self["key-file"]) or config_path.with_name(f"{name}.key")
        if not os.path.lexists(path):
            write_key_file(path)
            say(f"{path}: a new key; whoever can read it can act in {name}'s name")
        return path


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise local_error(path, error) from None


def _values_of(invitation: Invitation, path: Path, key_file: Path | None) -> dict[str, str | int]:
    """What the configuration at ``path`` has to say."""
    values: dict[str, str | int] = {
        "name": invitation.name,
        "address": invitation.host,
        "port": invitation.port,
        "realm": invitation.realm,
        "kdc-fingerprint": invitation.fingerprint,
    }
    if key_file is not None:
        near = key_file.parent == path.parent
        values["key-file"] = key_file.name if near else str(key_file)
    return values


class Passwd(ClientOptions):
    """``passwd``: change the passphrase or key."""

    synopsis = "kdcclient passwd -n NAME -a HOST -p PORT [options]"
    optParameters = [
        ["new-passphrase-file", None, None, "read the new passphrase from this file (mode 0600)"],
        ["new-key-file", None, None, "use this key file (see keygen) from now on"],
    ]

    def run(self) -> int:
        from twisted.internet import reactor

        settings = client_settings(self)
        if self["new-passphrase-file"] and self["new-key-file"]:
            raise usage.UsageError("give one of --new-passphrase-file and --new-key-file")
        new = SecretSource(
            absolute(self["new-passphrase-file"]), None, absolute(self["new-key-file"])
        )
        client = make_client(reactor, settings, prompt=f"old passphrase of {settings.name}: ")
        keys = new.keys(settings.realm, settings.name, "new passphrase: ")
        if new.asks:
            again = new.keys(settings.realm, settings.name, "once more: ")
            if again.verify_key != keys.verify_key:
                raise ConfigurationError("the two new passphrases differ; nothing was changed")
        return run_to_end(_PROGRAM, reactor, lambda: change_secret(client, keys))


class Tunnel(TunnelOptions):
    """``tunnel``: any number of services, both ways."""

    def run(self) -> int:
        return _tunnel(tunnel_settings(self))


class Expose(TunnelOptions):
    """``expose SERVICE=ENDPOINT...``"""

    synopsis = "kdcclient expose -n NAME -a HOST -p PORT SERVICE=ENDPOINT... [options]"

    def parseArgs(self, *exposed: str) -> None:
        self["expose"] = tuple(map(exposed_of, exposed))

    def run(self) -> int:
        return _tunnel(tunnel_settings(self))


class Forward(ClientOptions):
    """``forward --to PEER SERVICE --listen ENDPOINT``"""

    synopsis = "kdcclient forward -n NAME -a HOST -p PORT --to PEER --listen ENDPOINT SERVICE"
    optParameters = [
        ["to", None, None, "whose service"],
        [
            "listen",
            None,
            None,
            "port (on this machine only) or Twisted endpoint where it is reached",
        ],
    ]

    def parseArgs(self, service: str = "") -> None:
        self["service"] = service

    def run(self) -> int:
        if not (self["service"] and self["to"] and self["listen"]):
            raise usage.UsageError("say which: forward --to PEER SERVICE --listen ENDPOINT")
        forwarded = Forwarded(
            name_of(self["to"]), name_of(self["service"]), local_endpoint(self["listen"])
        )
        return _tunnel(TunnelSettings(client_settings(self), forwarded=(forwarded,)))


class Pipe(ClientOptions):
    """``pipe PEER SERVICE``"""

    synopsis = "kdcclient pipe -n NAME -a HOST -p PORT PEER SERVICE"
    longdesc = "Connect a peer's service to standard input and output, as ssh's ProxyCommand."

    def parseArgs(self, peer: str = "", service: str = "") -> None:
        if not peer or not service:
            raise usage.UsageError("say which: pipe PEER SERVICE")
        self["peer"], self["service"] = name_of(peer), name_of(service)

    def run(self) -> int:
        from twisted.internet import reactor

        settings = client_settings(self)
        client = make_client(reactor, settings)
        return run_to_end(
            _PROGRAM, reactor, lambda: pipe(client, settings, self["peer"], self["service"])
        )


class _Asking(ClientOptions):
    """A command that prints an answer."""

    optFlags = [["json", None, "answer in JSON"]]

    def print(self, answer: dict[str, Any]) -> None:
        if self["json"]:
            print(json.dumps(answer))
        else:
            for key, value in answer.items():
                print(f"{key}: {value}")


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

        return run_to_end(_PROGRAM, reactor, ask)


class Who(_Asking):
    """``who NAME...``"""

    synopsis = "kdcclient who -n NAME -a HOST -p PORT PEER..."
    longdesc = "Say which of these are registered, and which can be reached now."

    def parseArgs(self, *names: str) -> None:
        if not names:
            raise usage.UsageError("say whose state you want: who PEER...")
        self["names"] = tuple(map(name_of, names))

    def run(self) -> int:
        from twisted.internet import reactor

        client = make_client(reactor, client_settings(self))

        async def ask() -> int:
            self.print(await who(client, self["names"]))
            return 0

        return run_to_end(_PROGRAM, reactor, ask)


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
                run_to_end(_PROGRAM, reactor, lambda: self._register_check(client, findings))
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
        return 0

    def _tell(self, finding: Finding) -> None:
        hint = "" if finding.error is None else finding.error.hint
        if self["json"]:
            row = {"what": finding.what, "found": finding.found, "ok": finding.error is None}
            print(json.dumps({**row, "hint": hint}))
            return
        print(f"{'ok  ' if finding.error is None else 'FAIL'} {finding.what}: {finding.found}")
        if hint:
            print(f"       {hint}")


class Completion(Command):
    """``completion SHELL``"""

    synopsis = "kdcclient completion bash|zsh|fish"
    longdesc = "Write the script that teaches a shell these options to standard output."

    def parseArgs(self, shell: str = "") -> None:
        if shell not in SHELLS:
            raise usage.UsageError(f"which shell: {', '.join(SHELLS)}?")
        self["shell"] = shell

    def run(self) -> int:
        print(script_for(self["shell"], _PROGRAM, table_of(Options)), end="")
        return 0


class Keygen(Command):
    """``keygen FILE``: make a key file."""

    synopsis = "kdcclient keygen FILE"
    longdesc = "Make a file with a random key, to be used instead of a passphrase."

    def parseArgs(self, file: str = "") -> None:
        if not file:
            raise usage.UsageError("name the file: keygen FILE")
        self["file"] = file

    def run(self) -> int:
        path = Path(self["file"])
        write_key_file(path)
        say(f"{path}: a new key; whoever can read it can act in its owner's name")
        return 0


class Options(ReceiverOptions):
    """``kdcclient``: the origin's flags, or a word."""

    synopsis = (
        "kdcclient -n NAME -m R -s outenc -o outfile -a HOST -p PORT\n"
        "       kdcclient -n NAME -m S -r RECEIVER -i in.txt -a HOST -p PORT\n"
        "       kdcclient COMMAND [options]"
    )
    longdesc = "Receive and send over channels that the key distribution centre sets up."
    optParameters = [
        ["mode", "m", None, "R: receive one message; S: send one"],
        ["receiver", "r", None, "with -m S: the name of the receiver"],
        ["input", "i", None, "with -m S: the file to send"],
    ]
    subCommands = [
        ["receive", None, Receive, "receive what others send"],
        ["receiver", None, Receive, "the same"],
        ["send", None, Send, "send files"],
        ["sender", None, Sender, "send one file, with the flags of twistd kdcclient sender"],
        ["expose", None, Expose, "let peers use local services"],
        ["forward", None, Forward, "use a peer's service as if it were local"],
        ["pipe", None, Pipe, "connect a peer's service to standard input and output"],
        ["tunnel", None, Tunnel, "expose and forward, any number"],
        ["init", None, Init, "take the name of an invitation, and remember who we are"],
        ["register", None, Register, "take a name at the KDC"],
        ["passwd", None, Passwd, "change passphrase or key"],
        ["whoami", None, Whoami, "what we are to the KDC"],
        ["who", None, Who, "who can be reached now"],
        ["doctor", None, Doctor, "find out what is wrong"],
        ["completion", None, Completion, "completion for bash, zsh or fish"],
        ["keygen", None, Keygen, "make a key file"],
    ]

    def run(self) -> int:
        """Do what was asked; return the exit status."""
        if self.subCommand is not None:
            status: int = self.subOptions.run()
            return status
        if self["mode"] in ("R", "r"):
            return _receive(self, once=True, ask=False)
        if self["mode"] in ("S", "s"):
            return _send(send_settings(self))
        raise usage.UsageError("what? -m R, -m S, or a command")


def _receive(options: Any, *, once: bool, ask: bool) -> int:
    from twisted.internet import reactor

    options["once"] = once
    settings = attrs.evolve(receive_settings(options), ask=ask)
    receiver = Receiver(make_client(reactor, settings.client), settings)
    return run_to_end(_PROGRAM, reactor, receiver.run)


def _tunnel(settings: TunnelSettings) -> int:
    from twisted.internet import reactor

    tunnels = Tunnels(make_client(reactor, settings.client), settings)
    return run_to_end(_PROGRAM, reactor, tunnels.run)


def _send(settings: SendSettings) -> int:
    from twisted.internet import reactor

    client = make_client(reactor, settings.client)
    return run_to_end(_PROGRAM, reactor, lambda: send(client, settings))
