"""Records of a channel: typed, in order, with an authenticated end and its acknowledgement.

docs/protocol.md section 6.  Both directions follow the same rules, each under
its own key.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import TypeAlias

import attrs

from kdc.errors import LocalProtocolError, Refusal, RemoteProtocolError, malformed
from kdc.protocol.codec import FrameBuffer, Layout, frame, uint
from kdc.protocol.noise import TAG_BYTES, CipherState

__all__ = [
    "EVEN_DATA",
    "EVEN_RECORD",
    "MAX_DATA",
    "Ack",
    "AckStatus",
    "Data",
    "End",
    "Event",
    "RecordStream",
    "Room",
]

MAX_RECORD = 65_535
MIN_RECORD = TAG_BYTES + 1
MAX_DATA = MAX_RECORD - MIN_RECORD
# So much makes 64 KiB on the wire, length included: whole records fill what is read and sent
# at a time, and no few bytes are left over for a system call of their own.
EVEN_RECORD = 65_536
EVEN_DATA = EVEN_RECORD - 2 - MIN_RECORD
_LONG_DATA = 4096


class _Type(enum.IntEnum):
    DATA = 0
    END = 1
    ACK = 2


class AckStatus(enum.IntEnum):
    """What became of a whole stream at its receiver."""

    STORED = 0
    NOT_ALLOWED = 1
    TOO_LARGE = 2
    STORAGE_FAILED = 3


@attrs.frozen
class Data:
    """Some bytes of the stream, in order; possibly none.  A view of what is long: no copy."""

    data: bytes | memoryview = attrs.field(repr=False)


@attrs.frozen
class End:
    """The other side has sent all it will: its direction is whole."""

    total_bytes: int = uint(8).field()
    records: int = uint(8).field()


@attrs.frozen
class Ack:
    """The other side's answer to our END."""

    status: AckStatus = uint(1, min(AckStatus), max(AckStatus)).field(converter=AckStatus)
    total_bytes: int = uint(8).field()
    records: int = uint(8).field()


Event: TypeAlias = Data | End | Ack
_END = Layout(End)
_ACK = Layout(Ack)
_DATA_BYTE = bytes([_Type.DATA])


class Room:
    """For one record before it is sealed and after: whoever streams uses it again and again."""

    __slots__ = ("plain", "record")

    def __init__(self) -> None:
        self.plain = memoryview(bytearray(1 + EVEN_DATA))
        self.record = memoryview(bytearray(EVEN_RECORD))


@attrs.define
class _Count:
    """DATA of one direction so far, and how far its end has got."""

    total_bytes: int = 0
    records: int = 0
    ended: bool = False
    acknowledged: bool = False

    def add(self, length: int) -> None:
        self.total_bytes += length
        self.records += 1


class RecordStream:
    """Both directions of one channel; feed it what arrives, send what it returns.

    The first failure is final: the stream then refuses everything.
    """

    __slots__ = ("_failed", "_frames", "_received", "_receiving", "_sending", "_sent")

    def __init__(self, sending: CipherState, receiving: CipherState) -> None:
        self._sending = sending
        self._receiving = receiving
        self._frames = FrameBuffer(MAX_RECORD, MIN_RECORD)
        self._sent = _Count()
        self._received = _Count()
        self._failed = False

    def send_data(self, data: bytes | memoryview) -> list[bytes]:
        """Return records that carry ``data``.

        No data gives one empty record: a direction in which nothing happens.
        """
        if self._sent.ended:
            raise LocalProtocolError("data after the end")
        records = []
        for at in range(0, len(data) or 1, EVEN_DATA):
            piece = data[at : at + EVEN_DATA]
            self._sent.add(len(piece))
            records.append(frame(self._sending.seal(b"".join((_DATA_BYTE, piece)))))
        if not data:
            self._sending.rest()
        return records

    def stream_data(self, data: bytes | memoryview, room: Room) -> Iterator[bytes | memoryview]:
        """As `send_data`, but what is long is sealed in ``room``, one record after the other.

        Each is good until the next is asked for; all of them have to be, before anything else
        is done with this stream or in the same room.
        """
        if len(data) < _LONG_DATA:
            return iter(self.send_data(data))
        if self._sent.ended:
            raise LocalProtocolError("data after the end")
        return self._seal_in_turn(memoryview(data), room)

    def _seal_in_turn(self, data: memoryview, room: Room) -> Iterator[memoryview]:
        for at in range(0, len(data), EVEN_DATA):
            piece = data[at : at + EVEN_DATA]
            self._sent.add(len(piece))
            plain = room.plain[: 1 + len(piece)]
            plain[0], plain[1:] = _Type.DATA, piece
            length = len(plain) + TAG_BYTES
            record = room.record[: 2 + length]
            record[:2] = length.to_bytes(2, "big")
            self._sending.seal_into(plain, record[2:])
            yield record

    def send_end(self) -> bytes:
        """Return the record that makes our direction whole."""
        if self._sent.ended:
            raise LocalProtocolError("a second end")
        self._sent.ended = True
        end = End(self._sent.total_bytes, self._sent.records)
        return self._seal(_Type.END, _END.join(end))

    def send_ack(self, status: AckStatus) -> bytes:
        """Return the answer to the other side's END, which must have opened."""
        if not self._received.ended or self._received.acknowledged:
            raise LocalProtocolError("an acknowledgement that answers no end")
        self._received.acknowledged = True
        ack = Ack(status, self._received.total_bytes, self._received.records)
        return self._seal(_Type.ACK, _ACK.join(ack))

    def feed(self, chunk: bytes) -> None:
        """Take bytes as they arrived; `next_event` tells what they mean."""
        if not self._failed:
            self._frames.feed(chunk)

    def next_event(self) -> Event | None:
        """Return what has arrived whole, one thing after the other, or None.

        Raises `RemoteProtocolError` at the first record that is not the next one
        of this channel, or not allowed where it stands.
        """
        if self._failed:
            raise LocalProtocolError("the channel has failed")
        try:
            record = self._frames.next_view()
            return None if record is None else self._open(record)
        except RemoteProtocolError:
            self._failed = True
            raise

    @property
    def begun(self) -> int:
        """How much is here of a record that is not whole, once there are no more events."""
        return len(self._frames)

    @property
    def sent_end(self) -> bool:
        return self._sent.ended

    @property
    def received_end(self) -> bool:
        return self._received.ended

    @property
    def complete(self) -> bool:
        """Whether both directions have ended and both ends been acknowledged."""
        return self._sent.acknowledged and self._received.acknowledged

    def _seal(self, kind: _Type, body: bytes) -> bytes:
        return frame(self._sending.seal(bytes([kind]) + body))

    def _open(self, record: memoryview) -> Event:
        plaintext = self._receiving.open(record)
        kind = plaintext[0]
        if kind == _Type.DATA and len(plaintext) > _LONG_DATA:
            return self._data(memoryview(plaintext)[1:])
        body = plaintext[1:]
        if kind == _Type.DATA:
            return self._data(body)
        if kind == _Type.END:
            return self._end(body)
        if kind == _Type.ACK:
            return self._ack(body)
        raise malformed(f"a record of type {kind}")

    def _data(self, body: bytes | memoryview) -> Data:
        if self._received.ended:
            raise malformed("data after the end")
        self._received.add(len(body))
        if not body:
            self._receiving.rest()
        return Data(body)

    def _end(self, body: bytes) -> End:
        end = _END.split(body)
        count = self._received
        if count.ended:
            raise malformed("a second end")
        if (end.total_bytes, end.records) != (count.total_bytes, count.records):
            raise RemoteProtocolError(
                Refusal.NOT_AUTHENTIC, "the end does not count what was received"
            )
        count.ended = True
        return end

    def _ack(self, body: bytes) -> Ack:
        ack = _ACK.split(body)
        count = self._sent
        if not count.ended or count.acknowledged:
            raise malformed("an acknowledgement that answers no end")
        if (ack.total_bytes, ack.records) != (count.total_bytes, count.records):
            raise RemoteProtocolError(
                Refusal.NOT_AUTHENTIC, "the acknowledgement does not count what was sent"
            )
        count.acknowledged = True
        return ack
