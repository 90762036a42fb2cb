"""What people do, as docs/performance.md shows it."""

from __future__ import annotations

from bench.figures import Results
from bench.idle_channels import IDLE
from bench.plan import Plan
from bench.relay import ALONE, CARRIED, ISSUING, LINKS, OURS
from bench.scale import SCALE
from bench.senders import SENDERS
from bench.tables import Ratios, always, of, plot
from bench.transfers import FILES, MANY, MEMORY, RESUME, SMALL, TUNNEL
from bench.tunnelled import TUNNELLED
from bench.ways import CHANNEL, SEND, THROUGH

__all__ = ["crowds_shown", "receivers_shown", "relay_shown", "transfers_shown"]


def transfers_shown(results: Results, plan: Plan, plots: bool) -> list[str]:
    rate = {"MiB/s": "MiB/s", "CPU s/GiB": "CPU s per GiB, both ends"}

    def beside(row: str) -> Ratios:
        return {
            "rate, of ours": ("MiB/s", always(row)),
            "CPU, of ours": ("CPU s/GiB", always(row)),
        }

    return [
        f"## Transfers, memory to memory\n\nOf {plan.transfer_mib} MiB. Our channel between two"
        " processes that make the bytes and drop them, the session key and both handshakes"
        " included. The other programs are commands: they get their bytes through one pipe and"
        " pass them on through another, which is part of their figures as it is of their use, and"
        " their start is, too. *Two processes without pipes* do as ours do, with the same OpenSSL"
        " (pyOpenSSL in blocking sockets): the hardest comparison.\n\n"
        + of(results, MEMORY, rate | {"s": "s"}, beside(CHANNEL))
        + plot("transfer", plots),
        "## Transfers, file to file, on the disk at the end\n\n"
        f"Of {plan.transfer_mib} MiB. Real commands, their start included; the receiving end is"
        " there already, except with magic-wormhole, whose both ends are started.\n\n"
        + of(results, FILES, rate | {"s": "s"}, beside(SEND)),
        "## Small messages\n\nOne command each, from its start to the confirmation. 1 KiB, in a"
        " file; with magic-wormhole a text, and both ends are started.\n\n"
        + of(
            results,
            SMALL,
            {"s": "s", "CPU s": "CPU s, both ends", "client CPU s": "CPU s, the sender"},
            {"time, of ours": ("s", always(SEND)), "CPU, of ours": ("CPU s", always(SEND))},
        ),
        f"## Tunnels\n\n{plan.tunnel_mib} MiB over one TCP connection through a pair of processes"
        " that are there already; the CPU time of those that they start for a connection is in"
        " it.\n\n" + of(results, TUNNEL, rate, beside(THROUGH)),
    ]


def crowds_shown(results: Results, plan: Plan) -> list[str]:
    return [
        "## Very many senders to one receiver\n\nAll at once, each from another address and never"
        " seen before: it logs in, gets a key, opens a channel and sends a file of 1,000 bytes,"
        " which counts when the receiver has confirmed that it is on the disk. All limits are as"
        " they come.\n\n"
        + of(
            results,
            SENDERS,
            {
                "confirmed": "confirmed",
                "stored": "stored",
                "s for half": "s until half are",
                "s": "s until all are",
                "KDC CPU ms": "KDC's CPU for each, ms",
                "receiver CPU ms": "receiver's CPU for each, ms",
                "receiver MiB": "receiver's memory, MiB",
            },
        ),
        "## Very many connections through one tunnel\n\nAll begin at once; each sends a line, gets"
        " it back, and ends. All limits are as they come: the KDC makes 50 keys a second for one"
        " principal, and a receiver keeps 128 channels of one sender at a time, so the others"
        " wait.\n\n"
        + of(
            results,
            TUNNELLED,
            {
                "answered": "answered",
                "s for half": "s until half are",
                "s": "s until all are",
                "CPU ms": "CPU for each, both ends and KDC, ms",
                "MiB, expose": "expose's memory, MiB",
                "MiB, forward": "forward's memory, MiB",
            },
        ),
        f"## Very many small files\n\nA directory of {plan.many_files:,} files of 1,000 bytes,"
        " each of other content; ours are on the disk at the end, those of `tar` only with"
        " `sync`.\n\n"
        + of(
            results,
            MANY,
            {"s": "s", "CPU s": "CPU s, both ends"},
            {"time, of ours": ("s", always(SEND)), "CPU, of ours": ("CPU s", always(SEND))},
        ),
        f"## A large file that was cut\n\nOf {plan.transfer_mib:,} MiB: both ends are killed when"
        " 70 % are there, and started again. From the sender's start to the first new MiB, and to"
        " the end.\n\n"
        + of(
            results,
            RESUME,
            {"s to go on": "s until it goes on", "s": "s in all", "CPU s": "CPU s, both ends"},
        ),
    ]


def receivers_shown(results: Results, plan: Plan, plots: bool) -> list[str]:
    return [
        "## Very many receivers\n\nConnected and reachable, while 50 others ask for keys, one"
        " request in flight each. Then the KDC is started again, and they come back by themselves,"
        " each after pauses that grow and are never the same for two, 256 at a time at their"
        " handshake as everywhere; counted from when the KDC listens again. They share one machine"
        " with it: the CPU time of both sides tells how much of the wait that can explain.\n\n"
        + of(
            results,
            SCALE,
            {
                "KiB each": "KiB for each, in the KDC",
                "issue us": "issue: server CPU, us",
                "median ms": "median, ms",
                "p99 ms": "99 %, ms",
                "CPU us to connect": "server CPU to connect one, us",
                "s for most": "s until 90 % are back",
                "s to come back": "all",
                "KDC CPU s": "CPU s meanwhile, the KDC",
                "their CPU s": "the receivers",
            },
        )
        + plot("growth", plots),
        "## Idle channels\n\nBetween one receiver and senders in one process, 100 channels of each,"
        f" opened and used once; then only pings pass. After {plan.idle_seconds} s: the memory of"
        " each process that no other"
        " shares, for each channel; the kernel's is not counted. Then the CPU time of the receiver"
        " for as long. In the end each is used again.\n\n"
        + of(
            results,
            IDLE,
            {
                "KiB, receiver": "KiB for each, receiver",
                "KiB, sender": "KiB for each, sender",
                "CPU us to open": "receiver's CPU to open one, us",
                "CPU % idle": "receiver's CPU while idle, % of one processor",
            },
        ),
    ]


def relay_shown(results: Results, plan: Plan) -> list[str]:
    return [
        f"## Through a relay\n\n{plan.relay_mib} MiB from one TCP connection to another, as they"
        " are, and the CPU of the process in the middle alone. The ends make and drop the"
        " bytes.\n\n"
        + of(
            results,
            CARRIED,
            {"MiB/s": "MiB/s", "CPU s/GiB": "CPU s per GiB, in the middle"},
            {
                "rate, of ours": ("MiB/s", always(OURS)),
                "CPU, of ours": ("CPU s/GiB", always(OURS)),
            },
        )
        + f"\nReceivers that are linked to it and wait; then {plan.joined} transfers of a MiB at"
        " once, each to another of them, and how many came whole.\n\n"
        + of(
            results,
            LINKS,
            {
                "KiB each": "KiB for each, in the relay",
                "CPU us to link": "its CPU to link one, us",
                "whole": "whole",
                "s": "s",
            },
        )
        + "\nHow long a key takes meanwhile, one in flight on each of four connections, when the"
        " relay carries as much as it can: in the KDC's process, where the CPU counts both, and in"
        " one of its own, which shares the machine's processors with it all the same.\n\n"
        + of(
            results,
            ISSUING,
            {
                "median_ms": "median, ms",
                "p99_ms": "99 %, ms",
                "us": "KDC's CPU for each, us",
                "MiB/s": "carried, MiB/s",
            },
            {"99 %, of alone": ("p99_ms", always(ALONE))},
        ),
    ]
