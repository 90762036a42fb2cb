"""Records: in order, typed, with an authenticated end and its acknowledgement."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kdc.errors import LocalProtocolError, Refusal, RemoteProtocolError
from kdc.protocol.codec import frame
from kdc.protocol.noise import CipherState
from kdc.protocol.records import (
    EVEN_DATA,
    EVEN_RECORD,
    MAX_DATA,
    MAX_RECORD,
    Ack,
    AckStatus,
    Data,
    End,
    RecordStream,
    Room,
)
from tests.support.core import PROPERTY, CoreTestCase, every_flipped_bit, opened

THERE, BACK = b"t" * 32, b"b" * 32


def pair() -> tuple[RecordStream, RecordStream]:
    """Sender's and receiver's end of one channel."""
    return (
        RecordStream(CipherState(THERE), CipherState(BACK)),
        RecordStream(CipherState(BACK), CipherState(THERE)),
    )


def sealed(*plain: bytes, key: bytes = THERE) -> list[bytes]:
    """Records with these plaintexts, by somebody who has the key and breaks the rules."""
    state = CipherState(key)
    return [frame(state.seal(text)) for text in plain]


class NeverRekeyed(CipherState):
    """Goes on under the key it began with."""

    def _rekey(self) -> None:
        pass


def numbers(total: int, records: int) -> bytes:
    return total.to_bytes(8, "big") + records.to_bytes(8, "big")


class StreamTests(CoreTestCase):
    def test_whole_stream(self) -> None:
        """Data, end, acknowledgement: both ends know that it is whole."""
        a, b = pair()
        self.assertEqual(
            opened(b, *a.send_data(b"one"), *a.send_data(b"two")),
            [
                Data(b"one"),
                Data(b"two"),
            ],
        )
        self.assertFalse(b.received_end)
        self.assertEqual(opened(b, a.send_end()), [End(6, 2)])
        self.assertTrue(a.sent_end and b.received_end)
        self.assertEqual(opened(a, b.send_ack(AckStatus.STORED)), [Ack(AckStatus.STORED, 6, 2)])
        self.assertFalse(a.complete or b.complete)
        self.assertEqual(opened(a, b.send_end()), [End(0, 0)])
        self.assertFalse(a.complete or b.complete, "one end is not acknowledged")
        self.assertEqual(opened(b, a.send_ack(AckStatus.STORED)), [Ack(AckStatus.STORED, 0, 0)])
        self.assertTrue(a.complete and b.complete)

    @PROPERTY
    @given(st.lists(st.binary(max_size=20), max_size=6), st.data())
    def test_how_it_arrives_does_not_matter(self, pieces: list[bytes], data: st.DataObject) -> None:
        """One byte at a time, all at once or in any chunks: the same events."""
        a, _ = pair()
        stream = b"".join([r for piece in pieces for r in a.send_data(piece)]) + a.send_end()
        cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
        chunkings = (
            [stream],
            [stream[i : i + 1] for i in range(len(stream))],
            [stream[i:j] for i, j in zip([0, *cuts], [*cuts, len(stream)], strict=True)],
        )
        expected = [*map(Data, pieces), End(sum(map(len, pieces)), len(pieces))]
        for chunks in chunkings:
            _, b = pair()
            self.assertEqual([e for chunk in chunks for e in opened(b, chunk)], expected)

    def test_long_data_is_cut(self) -> None:
        """Data of any length goes out in records that make 64 KiB each, none empty."""
        for length, records in ((1, 1), (EVEN_DATA, 1), (EVEN_DATA + 1, 2), (3 * EVEN_DATA, 3)):
            a, b = pair()
            sent = a.send_data(memoryview(b"x" * length))
            self.assertEqual(len(sent), records)
            self.assertLessEqual(max(map(len, sent)), EVEN_RECORD)
            self.assertEqual(opened(b, *sent, a.send_end())[-1], End(length, records))

    @PROPERTY
    @given(
        st.lists(
            st.sampled_from([0, 1, 4095, 4096, EVEN_DATA - 1, EVEN_DATA, 3 * EVEN_DATA + 4096]),
            max_size=4,
        ),
        st.integers(65_530, 65_536),
    )
    def test_streamed(self, lengths: list[int], sealed_before: int) -> None:
        """Sealed into the same memory again and again it is the same bytes, past a new key, too."""
        one, other, room = pair()[0], pair()[0], Room()
        for each in (one, other):
            each._sending._count = sealed_before
        for number, length in enumerate(lengths):
            data = bytes([number]) * length
            listed = b"".join(one.send_data(data))
            self.assertEqual(b"".join(map(bytes, other.stream_data(data, room))), listed)
        self.assertEqual(other.send_end(), one.send_end())
        for data in (b"", bytes(EVEN_DATA)):
            self.assertRaises(LocalProtocolError, other.stream_data, data, room)

    def test_streamed_without_memory_of_its_own(self) -> None:
        """However long, it takes the memory of one record; nothing of one is left in the next."""
        a, b = pair()
        records = a.stream_data(memoryview(b"x" * (EVEN_DATA + 5000)), Room())
        first = next(records)
        self.assertEqual(opened(b, bytes(first)), [Data(b"x" * EVEN_DATA)])
        second = next(records)
        assert isinstance(first, memoryview) and isinstance(second, memoryview)
        self.assertIs(first.obj, second.obj)
        self.assertEqual(opened(b, bytes(second)), [Data(b"x" * 5000)])

    def test_longest_record(self) -> None:
        """What others send may be as long as a length can say."""
        _, b = pair()
        (record,) = sealed(bytes(1 + MAX_DATA))
        self.assertEqual(len(record), 2 + MAX_RECORD)
        self.assertEqual(opened(b, record), [Data(bytes(MAX_DATA))])
        self.assertEqual(MAX_DATA, 65_518)

    def test_what_is_long_is_not_copied(self) -> None:
        """It is a view of what was opened, which nobody can change; what is short is bytes."""
        a, b = pair()
        short, long = (0, 4095), (4096, EVEN_DATA)
        for length, kind in (*((n, bytes) for n in short), *((n, memoryview) for n in long)):
            (event,) = opened(b, *a.send_data(b"x" * length))
            assert isinstance(event, Data)
            self.assertIs(type(event.data), kind)
            self.assertEqual(event.data, b"x" * length)
            if isinstance(event.data, memoryview):
                self.assertIs(type(event.data.obj), bytes)

    def test_begun(self) -> None:
        """How much of a record is here is known, before it can be opened and when it has been."""
        a, b = pair()
        sent = b"".join(a.send_data(bytes(100)) + a.send_data(bytes(5000)))
        for at in (1, 2, 118, 119, 120, 4000, len(sent)):
            _, stream = pair()
            events = opened(stream, sent[:at])
            self.assertEqual(len(events), (at >= 119) + (at == len(sent)))
            whole = (0, 119, len(sent))[len(events)]
            self.assertEqual(stream.begun, at - whole)
        self.assertEqual(b.begun, 0)

    def test_even_records(self) -> None:
        """Long data makes records of 64 KiB on the wire."""
        record, _ = pair()[0].send_data(bytes(EVEN_DATA + 1))
        self.assertEqual(len(record), EVEN_RECORD)
        self.assertEqual(EVEN_RECORD, 65_536)

    def test_nothing_happens(self) -> None:
        """An empty record puts its direction to rest at both ends, and only that direction."""
        a, b = pair()
        for one, other in ((a, b), (b, a)):
            opened(other, *one.send_data(bytes(10_000)))
        opened(b, *a.send_data(b""))
        for resting in (a._sending, b._receiving):
            self.assertIsNone(resting._aead)
        for busy in (b._sending, a._receiving):
            self.assertIsNotNone(busy._aead)
        self.assertEqual(opened(b, *a.send_data(b"more")), [Data(b"more")])

    def test_empty_data(self) -> None:
        """An empty record is one: it shows the receiver that the sender is there."""
        a, b = pair()
        (record,) = a.send_data(b"")
        self.assertEqual(opened(b, record), [Data(b"")])
        self.assertEqual(opened(b, a.send_end()), [End(0, 1)])

    def test_end_alone_is_a_start(self) -> None:
        """A stream of nothing is a stream too."""
        a, b = pair()
        self.assertEqual(opened(b, a.send_end()), [End(0, 0)])

    def test_not_started_by_part_of_a_record(self) -> None:
        """Protocol section 5, step 10: nobody is there until a whole record has opened."""
        a, b = pair()
        (record,) = a.send_data(b"x")
        self.assertEqual(opened(b, record[:-1]), [])

    def test_acknowledgement_between_own_data(self) -> None:
        """An ACK may stand between the data of its own direction."""
        a, b = pair()
        self.assertEqual(
            opened(b, *a.send_data(b"x"), a.send_end()),
            [Data(b"x"), End(1, 1)],
        )
        sent = [*b.send_data(b"p"), b.send_ack(AckStatus.STORED), *b.send_data(b"q"), b.send_end()]
        self.assertEqual(
            opened(a, *sent), [Data(b"p"), Ack(AckStatus.STORED, 1, 1), Data(b"q"), End(2, 2)]
        )

    def test_every_status(self) -> None:
        """Stored, not allowed, too large, storage failed: each arrives as itself."""
        for status in AckStatus:
            a, b = pair()
            opened(b, a.send_end())
            self.assertEqual(opened(a, b.send_ack(status)), [Ack(status, 0, 0)])
        self.assertEqual([int(s) for s in AckStatus], [0, 1, 2, 3])

    def test_data_is_not_shown(self) -> None:
        """What was sent is in no repr."""
        self.assertEqual(repr(Data(b"private")), "Data()")


class AttackTests(CoreTestCase):
    """Protocol section 14: records swapped, repeated, dropped, flipped, reflected, moved."""

    def refused(self, *records: bytes, after: int = 0) -> None:
        """The receiver takes the first ``after`` records and refuses the next, for good."""
        _, b = pair()
        opened(b, *records[:after])
        self.assert_refused(Refusal.NOT_AUTHENTIC, opened, b, *records[after:])
        self.assertRaises(LocalProtocolError, b.next_event)

    def three(self) -> list[bytes]:
        a, _ = pair()
        return [r for at in range(3) for r in a.send_data(bytes([at]))]

    def test_swapped_repeated_dropped(self) -> None:
        """Record i of the receiver is record i of the sender."""
        one, two, three = self.three()
        self.refused(two, one)
        self.refused(two)
        self.refused(one, one, after=1)
        self.refused(one, three, after=1)
        self.refused(one, three, two, after=1)
        self.refused(one, two, one, after=2)

    def test_every_bit(self) -> None:
        """No bit of a record can be changed; its length neither."""
        (one, *_) = self.three()
        for changed in every_flipped_bit(one[2:]):
            self.refused(frame(changed))
        self.refused(frame(one[2:] + b"\0"))
        self.refused(frame(one[2:-1]))

    def test_every_bit_of_end_and_ack(self) -> None:
        """No bit of an end, or of an acknowledgement, can be changed."""
        a, b = pair()
        end = a.send_end()
        opened(b, end)
        ack = b.send_ack(AckStatus.STORED)
        for changed in every_flipped_bit(end[2:]):
            self.refused(frame(changed))
        for changed in every_flipped_bit(ack[2:]):
            a, _ = pair()
            a.send_end()
            self.assert_refused(Refusal.NOT_AUTHENTIC, opened, a, frame(changed))
            self.assertFalse(a.complete)

    def test_reflected(self) -> None:
        """What the sender sent does not come back to it as an answer."""
        a, _ = pair()
        for records in (a.send_data(b"x"), [a.send_end()]):
            other, _ = pair()
            self.assert_refused(Refusal.NOT_AUTHENTIC, opened, other, *records)

    def test_other_channel(self) -> None:
        """A record of one channel is none of another."""
        self.refused(*sealed(b"\0x", key=b"o" * 32))

    def test_failed_for_good(self) -> None:
        """After the first failure nothing more is taken, good or bad."""
        one, two, _ = self.three()
        _, b = pair()
        self.assert_refused(Refusal.NOT_AUTHENTIC, opened, b, two)
        for _ in range(100):
            b.feed(one)
        self.assertEqual(len(b._frames), 0)  # a peer that goes on sending fills no memory
        self.assertRaises(LocalProtocolError, b.next_event)

    def test_lengths(self) -> None:
        """A record has 17 to 65,535 bytes, seen from its length alone."""
        for length, allowed in ((0, False), (1, False), (16, False), (17, True), (65_535, True)):
            _, b = pair()
            b.feed(length.to_bytes(2, "big"))
            if allowed:
                self.assertIsNone(b.next_event())
            else:
                self.assert_refused(Refusal.MALFORMED, b.next_event)

    def test_record_after_65536(self) -> None:
        """Record 65,536 is sealed under the next key: under the old one it is refused."""
        old, new = NeverRekeyed(THERE), CipherState(THERE)
        b = RecordStream(CipherState(BACK), CipherState(THERE))
        for state in (old, new, b._receiving):
            state._count = 65_536
        record = frame(new.seal(b"\0x"))
        self.assertEqual(opened(b, record), [Data(b"x")])
        b = RecordStream(CipherState(BACK), CipherState(THERE))
        b._receiving._count = 65_536
        self.assert_refused(Refusal.NOT_AUTHENTIC, opened, b, frame(old.seal(b"\0x")))

    @PROPERTY
    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes give nothing, or a refusal; never data, never another error."""
        _, b = pair()
        b.feed(data)
        if len(data) >= 2:
            length = int.from_bytes(data[:2], "big")
            if length < 17 or length + 2 <= len(data):
                refusal = Refusal.MALFORMED if length < 17 else Refusal.NOT_AUTHENTIC
                self.assert_refused(refusal, b.next_event)
                return
        self.assertIsNone(b.next_event())

    @PROPERTY
    @given(st.binary(min_size=1, max_size=40))
    def test_any_plaintext(self, plain: bytes) -> None:
        """Even a peer with the key can send nothing but records that keep the rules."""
        _, b = pair()
        try:
            events = opened(b, *sealed(plain))
        except RemoteProtocolError as error:
            self.assertIn(error.refusal, (Refusal.MALFORMED, Refusal.NOT_AUTHENTIC))
        else:
            expected = [Data(plain[1:])] if plain[0] == 0 else [End(0, 0)]
            self.assertEqual(events, expected)


class EndTests(CoreTestCase):
    """Protocol section 14: END too early, wrong numbers, record after END; ACK with others."""

    def refused(self, refusal: Refusal, *plain: bytes) -> None:
        """The last of these records is refused, the others are not."""
        *good, bad = sealed(*plain)
        _, b = pair()
        opened(b, *good)
        self.assert_refused(refusal, opened, b, bad)

    def test_wrong_numbers(self) -> None:
        """An end that counts other data, or other records, makes nothing whole."""
        data = (b"\0abc", b"\0d")
        for total, records in itertools.product((3, 4, 5), (1, 2, 3)):
            if (total, records) != (4, 2):
                self.refused(Refusal.NOT_AUTHENTIC, *data, b"\1" + numbers(total, records))
        self.refused(Refusal.NOT_AUTHENTIC, b"\1" + numbers(2**64 - 1, 0))

    def test_too_early(self) -> None:
        """An end before all data is not this stream's end."""
        self.refused(Refusal.NOT_AUTHENTIC, b"\0abc", b"\1" + numbers(4, 2))

    def test_after_the_end(self) -> None:
        """Nothing of the stream follows its end: no data, not even empty, and no second end."""
        end = b"\1" + numbers(0, 0)
        for more in (b"\0", b"\0x", end):
            self.refused(Refusal.MALFORMED, end, more)

    def test_truncated(self) -> None:
        """Without the end, the stream is not whole, whatever arrived before."""
        a, b = pair()
        opened(b, *a.send_data(b"all of it"))
        self.assertFalse(b.received_end)
        self.assertRaises(LocalProtocolError, b.send_ack, AckStatus.STORED)

    def test_unknown_types(self) -> None:
        """There are three types of record."""
        for kind in range(3, 256):
            self.refused(Refusal.MALFORMED, bytes([kind]) + numbers(0, 0))

    def test_lengths_of_bodies(self) -> None:
        """End and acknowledgement have exactly their fields."""
        for tail in (b"", numbers(0, 0)[:-1], numbers(0, 0) + b"\0"):
            self.refused(Refusal.MALFORMED, b"\1" + tail)
            self.refused(Refusal.MALFORMED, b"\2\0" + tail)

    def acknowledged(self, refusal: Refusal, *acks: bytes, end: bool = True) -> None:
        """The sender of 3 bytes in one record refuses the last of these acknowledgements."""
        *good, bad = sealed(*acks, key=BACK)
        a, _ = pair()
        a.send_data(b"abc")
        if end:
            a.send_end()
        opened(a, *good)
        self.assert_refused(refusal, opened, a, bad)

    def test_acknowledgement_of_other_numbers(self) -> None:
        """Only an answer to exactly what was sent says that it was stored."""
        for total, records in ((0, 0), (3, 0), (2, 1), (4, 1), (3, 2)):
            self.acknowledged(Refusal.NOT_AUTHENTIC, b"\2\0" + numbers(total, records))

    def test_acknowledgement_of_other_status(self) -> None:
        """The statuses are a closed set, and what is not stored is never shown as stored."""
        for status in range(4, 256):
            self.acknowledged(Refusal.MALFORMED, b"\2" + bytes([status]) + numbers(3, 1))

    def test_acknowledgement_before_the_end(self) -> None:
        """Nobody can have stored a stream before its end was sent."""
        self.acknowledged(Refusal.MALFORMED, b"\2\0" + numbers(3, 1), end=False)

    def test_second_acknowledgement(self) -> None:
        """An end is answered once."""
        ack = b"\2\0" + numbers(3, 1)
        self.acknowledged(Refusal.MALFORMED, ack, ack)

    def test_what_we_may_not_send(self) -> None:
        """Our own mistakes are caught before they reach the wire."""
        a, b = pair()
        self.assertRaises(LocalProtocolError, b.send_ack, AckStatus.STORED)
        end = a.send_end()
        self.assertRaises(LocalProtocolError, a.send_end)
        self.assertRaises(LocalProtocolError, a.send_data, b"x")
        opened(b, end)
        b.send_ack(AckStatus.STORED)
        self.assertRaises(LocalProtocolError, b.send_ack, AckStatus.STORED)

    def test_all_types_in_all_states(self) -> None:
        """Every record is either allowed where it stands, or refused."""
        data, end, ack = b"\0", b"\1" + numbers(0, 0), b"\2\0" + numbers(0, 0)
        for sent_end, received_end, acknowledged in itertools.product((False, True), repeat=3):
            if acknowledged and not sent_end:
                continue
            before = [ack] * acknowledged + [end] * received_end
            for record, allowed in (
                (data, not received_end),
                (end, not received_end),
                (ack, sent_end and not acknowledged),
            ):
                a, _ = pair()
                if sent_end:
                    a.send_end()
                *good, last = sealed(*before, record, key=BACK)
                self.assertEqual(len(opened(a, *good)), len(before))
                if allowed:
                    self.assertEqual(len(opened(a, last)), 1)
                else:
                    self.assert_refused(Refusal.MALFORMED, opened, a, last)
