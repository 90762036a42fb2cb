"""Two others' readers and writers of the same messages: asn1tools and impacket.

asn1tools compiles ``tests/vectors/kerberos.asn1``; impacket has types of its own.  Messages that
Hypothesis makes are the same bytes for all three, and mean the same to them.
"""

from __future__ import annotations

import datetime as dt
import importlib
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kdc.kerberos import authdata, fast, kpasswd, messages
from kdc.kerberos.der import (
    ANY,
    FLAGS,
    INT32,
    MICROSECONDS,
    OCTETS,
    TEXT,
    TIME,
    UINT32,
    DERError,
    Kind,
    text_of_moment,
)
from kdc.kerberos.layout import Layout
from kdc.kerberos.messages import KDC_REQ_BODY, S4U_USER_ID

MODULE = Path(__file__).parent.parent / "vectors" / "kerberos.asn1"
HOW_TO = "; in CI it is there: .ci/oracles"
# Each with its number of the tag and its type of message, where it has one (RFC 4120 5.10).
WHOLE: tuple[tuple[Layout[Any], str, str], ...] = (
    (messages.AS_REQ, "AS-REQ", "AS_REQ"),
    (messages.TGS_REQ, "TGS-REQ", "TGS_REQ"),
    (messages.KDC_REQ_BODY, "KDC-REQ-BODY", "KDC_REQ_BODY"),
    (messages.AS_REP, "AS-REP", "AS_REP"),
    (messages.TGS_REP, "TGS-REP", "TGS_REP"),
    (messages.ENC_AS_REP_PART, "EncASRepPart", ""),
    (messages.ENC_TGS_REP_PART, "EncTGSRepPart", ""),
    (messages.TICKET, "Ticket", "Ticket"),
    (messages.ENC_TICKET_PART, "EncTicketPart", "EncTicketPart"),
    (messages.AP_REQ, "AP-REQ", "AP_REQ"),
    (messages.AUTHENTICATOR, "Authenticator", "Authenticator"),
    (messages.AP_REP, "AP-REP", "AP_REP"),
    (messages.ENC_AP_REP_PART, "EncAPRepPart", "EncAPRepPart"),
    (messages.KRB_PRIV, "KRB-PRIV", "KRB_PRIV"),
    (messages.ENC_KRB_PRIV_PART, "EncKrbPrivPart", ""),
    (messages.KRB_ERROR, "KRB-ERROR", "KRB_ERROR"),
    (messages.PA_ENC_TIMESTAMP, "PA-ENC-TS-ENC", "PA_ENC_TS_ENC"),
    (messages.ENCRYPTED_DATA, "EncryptedData", "EncryptedData"),
    (messages.CHECKSUM, "Checksum", "Checksum"),
    (messages.PA_FOR_USER, "PA-FOR-USER-ENC", "PA_FOR_USER_ENC"),
    (messages.S4U_USER_ID, "S4UUserID", ""),
    (messages.PA_S4U_X509_USER, "PA-S4U-X509-USER", ""),
    (fast.ARMOURED_REQ, "KrbFastArmoredReq", ""),
    (fast.FAST_REQ, "KrbFastReq", ""),
    (fast.ARMOURED_REP, "KrbFastArmoredRep", ""),
    (fast.RESPONSE, "KrbFastResponse", ""),
    (kpasswd.DATA, "ChangePasswdData", ""),
    (authdata.CAMMAC, "AD-CAMMAC", ""),
)
TYPES = {"AS-REQ": 10, "AS-REP": 11, "TGS-REQ": 12, "TGS-REP": 13}
TYPES |= {"AP-REQ": 14, "AP-REP": 15, "KRB-PRIV": 21, "KRB-ERROR": 30}
# What the elements of our classes are called there, in their order.
NAMES = {
    "PrincipalName": "name-type name-string",
    "HostAddress": "addr-type address",
    "AuthorizationDatum": "ad-type ad-data",
    "PAData": "padata-type padata-value",
    "EncryptedData": "etype kvno cipher",
    "EncryptionKey": "keytype keyvalue",
    "Checksum": "cksumtype checksum",
    "Ticket": "tkt-vno realm sname enc-part",
    "TransitedEncoding": "tr-type contents",
    "EncTicketPart": "flags key crealm cname transited authtime starttime endtime renew-till caddr"
    " authorization-data",
    "KDCReq": "pvno msg-type padata req-body",
    "KDCReqBody": "kdc-options cname realm sname from till rtime nonce etype addresses"
    " enc-authorization-data additional-tickets",
    "KDCRep": "pvno msg-type padata crealm cname ticket enc-part",
    "LastReq": "lr-type lr-value",
    "EncKDCRepPart": "key last-req nonce key-expiration flags authtime starttime endtime"
    " renew-till srealm sname caddr encrypted-pa-data",
    "APReq": "pvno msg-type ap-options ticket authenticator",
    "Authenticator": "authenticator-vno crealm cname cksum cusec ctime subkey seq-number"
    " authorization-data",
    "APRep": "pvno msg-type enc-part",
    "EncAPRepPart": "ctime cusec subkey seq-number",
    "KRBPriv": "pvno msg-type enc-part",
    "EncKRBPrivPart": "user-data timestamp usec seq-number s-address r-address",
    "KRBError": "pvno msg-type ctime cusec stime susec error-code crealm cname realm sname"
    " e-text e-data",
    "PAEncTimestamp": "patimestamp pausec",
    "PAForUser": "userName userRealm cksum auth-package",
    "S4UUserID": "nonce cname crealm subject-certificate options",
    "PAS4UX509User": "user-id checksum",
    "_Armour": "armor-type armor-value",
    "_ArmouredReq": "armor req-checksum enc-fast-req",
    "_FastReq": "fast-options padata req-body",
    "_ArmouredRep": "enc-fast-rep",
    "_Finished": "timestamp usec crealm cname ticket-checksum",
    "_Response": "padata strengthen-key finished nonce",
    "_ChangePasswordData": "newpasswd targname targrealm",
    "_VerifierMAC": "identifier kvno enctype mac",
    "_Cammac": "elements kdc-verifier svc-verifier",
}
# Fields that hold another message's bytes, or those of several.
INSIDE: dict[str, Layout[Any]] = {
    "body": KDC_REQ_BODY,
    "user": S4U_USER_ID,
    "kdc_verifier": authdata.VERIFIER,
    "service_verifier": authdata.VERIFIER,
}
SEVERAL_INSIDE = {"elements": (messages.AUTHORIZATION_DATA, messages.AuthorizationDatum)}
LEAVES: dict[Kind[Any], st.SearchStrategy[Any]] = {
    INT32: st.integers(-(1 << 31), (1 << 31) - 1),
    UINT32: st.integers(-(1 << 31), (1 << 32) - 1),
    MICROSECONDS: st.integers(0, 999_999),
    FLAGS: st.integers(0, (1 << 32) - 1),
    # From the year 1000 on: before that asn1tools forgets the zero in front.
    TIME: st.integers(-30_610_224_000, 253_402_300_799),
    OCTETS: st.binary(max_size=200),
    TEXT: st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
}


def kind_of(field: Any) -> Kind[Any]:
    kind: Kind[Any] = field.metadata[Layout][1]
    return kind


def shape_of(hint: Any) -> tuple[Any, bool, bool]:
    """The type itself, whether there are several of it, and whether it may be missing."""
    optional = isinstance(hint, types.UnionType)
    if optional:
        (hint,) = (each for each in hint.__args__ if each is not type(None))
    several = typing.get_origin(hint) is tuple
    return typing.get_args(hint)[0] if several else hint, several, optional


# pyasn1 writes these with a byte too many, and takes an empty SEQUENCE OF for a missing one.
_PYASN1_WRONG = tuple(-(1 << 8 * size - 1) for size in range(1, 5))


def messages_of(
    message_type: Any, number: int | None, *, for_pyasn1: bool = False
) -> st.SearchStrategy[Any]:
    """Messages of a class; ``number`` is what the type of message has to be."""
    hints = typing.get_type_hints(message_type)
    arguments = {}
    for field in attrs.fields(message_type):
        each, several, optional = shape_of(hints[field.name])
        kind = kind_of(field)
        if field.name == "version":
            values: st.SearchStrategy[Any] = st.just(5)
        elif field.name == "message_type":
            values = st.just(number)
        elif field.name in SEVERAL_INSIDE:
            several_of, one = SEVERAL_INSIDE[field.name]
            inside = st.lists(messages_of(one, None, for_pyasn1=for_pyasn1), max_size=2)
            values = inside.map(tuple).map(several_of.encode)
        elif kind is ANY:
            inner = INSIDE[field.name]
            inside = messages_of(inner._type, None, for_pyasn1=for_pyasn1)
            values = inside.map(inner.encode)
        elif attrs.has(each):
            values = messages_of(each, None, for_pyasn1=for_pyasn1)
        else:
            values = LEAVES[(TEXT if each is str else INT32) if several else kind]
            if for_pyasn1:
                values = values.filter(lambda value: value not in _PYASN1_WRONG)
        if several:
            values = st.lists(values, min_size=int(for_pyasn1), max_size=2).map(tuple)
        arguments[field.name] = st.none() | values if optional else values
    return st.builds(message_type, **arguments)


def plain(message: Any, leaf: Any) -> dict[str, Any]:
    """The message as nested dicts with the names of the RFC; ``leaf`` makes values of leaves."""
    found = {}
    names = NAMES[type(message).__name__].split()
    for name, field in zip(names, attrs.fields(type(message)), strict=True):
        value = getattr(message, field.name)
        if value is not None:
            if field.name in SEVERAL_INSIDE:
                value = SEVERAL_INSIDE[field.name][0].decode(value)
            elif kind_of(field) is ANY:
                value = INSIDE[field.name].decode(value)
            found[name] = _plain(value, kind_of(field), leaf)
    return found


def _plain(value: Any, kind: Kind[Any], leaf: Any) -> Any:
    if attrs.has(type(value)):
        return plain(value, leaf)
    if isinstance(value, tuple):
        return [_plain(each, TEXT if isinstance(each, str) else INT32, leaf) for each in value]
    return leaf(value, kind)


def loaded(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise SkipTest(f"this environment has no {name.partition('.')[0]}{HOW_TO}") from None


class Asn1Tools:
    def __init__(self) -> None:
        self._module = loaded("asn1tools").compile_files(str(MODULE), "der")

    @staticmethod
    def leaf(value: Any, kind: Kind[Any]) -> Any:
        if kind is FLAGS:
            return value.to_bytes(4, "big"), 32
        if kind is TIME:
            moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=value)
            return moment.replace(tzinfo=None)
        # It takes GeneralString for Latin-1.
        return value.encode().decode("latin-1") if isinstance(value, str) else value

    def encode(self, name: str, value: Any) -> bytes:
        return bytes(self._module.encode(name, value))

    def decode(self, name: str, data: bytes) -> Any:
        return self._module.decode(name, data)


class Impacket:
    def __init__(self) -> None:
        self._specs = loaded("impacket.krb5.asn1")
        self._native = loaded("pyasn1.codec.native.decoder"), loaded("pyasn1.codec.native.encoder")
        self._der = loaded("pyasn1.codec.der.decoder"), loaded("pyasn1.codec.der.encoder")

    @staticmethod
    def leaf(value: Any, kind: Kind[Any]) -> Any:
        if kind is FLAGS:
            return f"{value:032b}"
        return text_of_moment(value).decode() if kind is TIME else value

    def encode(self, name: str, value: Any) -> bytes:
        native, _ = self._native
        return bytes(self._der[1].encode(native.decode(value, asn1Spec=self._spec(name))))

    def decode(self, name: str, data: bytes) -> Any:
        found, rest = self._der[0].decode(data, asn1Spec=self._spec(name))
        if rest:
            raise ValueError("something left over")
        return _ordinary(self._native[1].encode(found))

    def _spec(self, name: str) -> Any:
        return getattr(self._specs, name)()


def _ordinary(value: Any) -> Any:
    """What pyasn1 returns without its own classes; text as the bytes it is."""
    if isinstance(value, dict):
        return {name: _ordinary(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_ordinary(each) for each in value]
    return value


def _bytes_for_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _bytes_for_text(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_bytes_for_text(each) for each in value]
    return value.encode() if isinstance(value, str) else value


def tried(examples: int, strategy: st.SearchStrategy[Any], test: Callable[..., None]) -> None:
    """Have Hypothesis try it with the same examples in each run."""
    settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # what fails is short anyway, and making it shorter takes minutes
    )(given(strategy, st.data())(test))()


class OracleTests(SynchronousTestCase):
    def agree(self, oracle: Any, layout: Layout[Any], name: str, number: int | None) -> None:
        """The same bytes, and the same meaning of them."""

        def agrees(message: Any, _: Any) -> None:
            ours = layout.encode(message)
            expected = plain(message, oracle.leaf)
            self.assertEqual(oracle.encode(name, expected), ours)
            meant = oracle.decode(name, ours)
            self.assertEqual(_bytes_for_text(meant), _bytes_for_text(expected))
            self.assertEqual(layout.decode(ours), message)

        for_pyasn1 = isinstance(oracle, Impacket)
        tried(25, messages_of(layout._type, number, for_pyasn1=for_pyasn1), agrees)

    def test_asn1tools(self) -> None:
        """With every message there is."""
        oracle = Asn1Tools()
        for layout, name, _ in WHOLE:
            self.agree(oracle, layout, name, TYPES.get(name))

    def test_impacket(self) -> None:
        """With those that it has."""
        oracle = Impacket()
        for layout, name, theirs in WHOLE:
            if theirs:
                self.agree(oracle, layout, theirs, TYPES.get(name))

    def test_changed(self) -> None:
        """What we take of bytes that are almost right, asn1tools takes, and for the same."""
        oracle = Asn1Tools()
        for layout, name, _ in WHOLE:
            self.changed(oracle, layout, name)

    def changed(self, oracle: Any, layout: Layout[Any], name: str) -> None:
        def same(data: bytes, draw: Any) -> None:
            at = draw.draw(st.integers(0, len(data) - 1))
            other = draw.draw(st.sampled_from((0, 1, 5, 0x1B, 0x30, 0x7F, 0x80, 0xA1, 0xFF)))
            wrong = data[:at] + bytes((other,)) + data[at + 1 :]
            try:
                meant = plain(layout.decode(wrong), oracle.leaf)  # a body inside as well
            except DERError:
                return
            self.assertEqual(oracle.decode(name, wrong), meant)

        strategy = messages_of(layout._type, TYPES.get(name)).map(layout.encode)
        tried(60, strategy, same)

    def test_every_message(self) -> None:
        """No layout of `kdc.kerberos.messages` has been left out, nor a class without names."""
        tested = {layout._type for layout, _, _ in WHOLE}
        layouts = [value for value in vars(messages).values() if isinstance(value, Layout)]
        parts = {"PrincipalName", "EncryptionKey"}
        self.assertEqual(
            {each._type.__name__ for each in layouts if each._type not in tested}, parts
        )
