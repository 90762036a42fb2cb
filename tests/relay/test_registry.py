"""Who is linked, whose an epoch is, who waits for whom: each limit, and nothing is left over."""

from __future__ import annotations

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from kdc.errors import RefusedByPolicy
from kdc.protocol.relay import Verdict
from kdc.relay._registry import Registry
from kdc.relay.limits import RelayLimits
from tests.support.core import PROPERTY, SeededRandom

HERE = "192.0.2.1"
EPOCHS = [bytes([number]) * 16 for number in range(8)]


def registry(owned: dict[bytes, str] | None = None, **limits: float) -> Registry[str, str]:
    def owns(principal: str, epoch_id: bytes) -> bool | None:
        return None if owned is None else owned.get(epoch_id) == principal

    return Registry(RelayLimits(**limits), SeededRandom("relay"), owns)  # type: ignore[arg-type]


class ClaimTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.made = registry()
        self.made.link("link of bob", "bob", HERE)
        self.made.link("link of eve", "eve", HERE)

    def test_first_come(self) -> None:
        """Where nobody can know, an epoch is his who claims it first, while his link lives."""
        self.assertEqual(self.made.claim("link of bob", EPOCHS[0]), Verdict.YES)
        self.assertEqual(self.made.claim("link of bob", EPOCHS[0]), Verdict.YES)
        self.assertEqual(self.made.claim("link of eve", EPOCHS[0]), Verdict.NOT_YOURS)
        self.assertEqual(self.made.holder(EPOCHS[0]), "link of bob")
        self.made.unlink("link of bob")
        self.assertIsNone(self.made.holder(EPOCHS[0]))
        self.assertEqual(self.made.claim("link of eve", EPOCHS[0]), Verdict.YES)

    def test_a_later_link_of_ones_own(self) -> None:
        """One that came back takes its epochs over from its link that nobody knows to be dead."""
        self.made.claim("link of bob", EPOCHS[0])
        self.made.link("new link", "bob", HERE)
        self.assertEqual(self.made.claim("new link", EPOCHS[0]), Verdict.YES)
        self.made.release("link of bob", EPOCHS[0])
        self.made.unlink("link of bob")
        self.assertEqual(self.made.holder(EPOCHS[0]), "new link")

    def test_where_it_is_known(self) -> None:
        """In the KDC's process nobody claims another's, and the owner gets his own back."""
        owned: dict[bytes, str] = {}
        made = registry(owned)
        made.link("b", "bob", HERE)
        made.link("e", "eve", HERE)
        self.assertEqual(made.claim("b", EPOCHS[0]), Verdict.NOT_YOURS)
        owned[EPOCHS[0]] = "eve"
        self.assertEqual(made.claim("b", EPOCHS[0]), Verdict.NOT_YOURS)
        self.assertEqual(made.claim("e", EPOCHS[0]), Verdict.YES)
        owned[EPOCHS[0]] = "bob"
        self.assertEqual(made.claim("b", EPOCHS[0]), Verdict.YES)
        self.assertEqual(made.holder(EPOCHS[0]), "b")

    def test_release(self) -> None:
        """Only the holder gives an epoch up."""
        self.made.claim("link of bob", EPOCHS[0])
        self.made.release("link of eve", EPOCHS[0])
        self.assertEqual(self.made.holder(EPOCHS[0]), "link of bob")
        self.made.release("link of bob", EPOCHS[0])
        self.assertIsNone(self.made.holder(EPOCHS[0]))

    def test_claims_are_bounded(self) -> None:
        """A link has so many epochs; one given up makes room."""
        made = registry(epochs_per_link=2)
        made.link("b", "bob", HERE)
        verdicts = [made.claim("b", epoch_id) for epoch_id in EPOCHS[:3]]
        self.assertEqual(verdicts, [Verdict.YES, Verdict.YES, Verdict.TOO_MANY])
        made.release("b", EPOCHS[0])
        self.assertEqual(made.claim("b", EPOCHS[2]), Verdict.YES)


class LimitTests(SynchronousTestCase):
    """At a limit the newcomer is refused; whoever is there stays, and his going makes room."""

    def refused_to_link(self, made: Registry[str, str], name: str, address: str) -> None:
        before = made.links
        self.assertRaises(RefusedByPolicy, made.link, "one more", name, address)
        self.assertEqual(made.links, before)

    def test_links(self) -> None:
        made = registry(links=2, links_per_principal=9, links_per_address=9)
        made.link("1", "bob", HERE)
        made.link("2", "carol", HERE)
        self.refused_to_link(made, "dave", "192.0.2.9")
        made.unlink("1")
        made.link("3", "dave", HERE)

    def test_links_of_one(self) -> None:
        """One's own oldest link makes room, for nobody else, and only if one more is taken."""
        made = registry(links_per_principal=2, links_per_address=3, links=3)
        self.assertIsNone(made.link("1", "bob", HERE))
        self.assertIsNone(made.link("2", "bob", HERE))
        self.assertIsNone(made.link("3", "carol", HERE))
        made.claim("1", EPOCHS[0])
        self.refused_to_link(made, "dave", "192.0.2.9")
        self.assertEqual(made.link("4", "bob", HERE), "1")
        self.assertEqual((made.links, made.holder(EPOCHS[0])), (3, None))
        self.assertEqual(made.link("5", "bob", "192.0.2.9"), "2")
        made = registry(links_per_principal=1, links_per_address=1)
        made.link("1", "bob", HERE)
        made.link("2", "carol", "192.0.2.9")
        self.refused_to_link(made, "bob", "192.0.2.9")
        self.assertEqual(made.link("3", "bob", HERE), "1")

    def test_links_from_one_address(self) -> None:
        """Of IPv6 a /64 counts as one."""
        made = registry(links_per_address=1)
        made.link("1", "bob", "2001:db8::1")
        self.refused_to_link(made, "carol", "2001:db8::2")
        made.link("2", "carol", "2001:db8:0:1::2")

    def test_joined(self) -> None:
        for limits in (
            {"joined": 2},
            {"joined_per_principal": 2},
            {"joined_per_address": 2},
        ):
            made = registry(**limits)  # type: ignore[arg-type]
            made.link("b", "bob", HERE)
            token = made.call("b", "1", HERE, 0)
            made.call("b", "2", HERE, 0)
            self.assertRaises(RefusedByPolicy, made.call, "b", "3", HERE, 0)
            self.assertEqual(made.come(token, 0), "1")  # joined counts as well as waiting
            self.assertRaises(RefusedByPolicy, made.call, "b", "3", HERE, 0)
            made.forget("1")
            made.call("b", "3", HERE, 0)

    def test_others_are_not_refused(self) -> None:
        """One receiver's crowd, and one address's, is its own affair."""
        made = registry(joined_per_principal=1, joined_per_address=2)
        made.link("b", "bob", HERE)
        made.link("c", "carol", HERE)
        made.call("b", "1", HERE, 0)
        made.call("c", "2", HERE, 0)
        made.forget("2")
        made.call("c", "3", "192.0.2.2", 0)


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.made = registry(token_seconds=10)
        self.made.link("b", "bob", HERE)
        self.token = self.made.call("b", "sender", HERE, 1000)

    def test_once(self) -> None:
        """A token brings one connection to its sender."""
        self.assertEqual(len(self.token), 32)
        self.assertEqual(self.made.come(self.token, 11_000), "sender")
        self.assertIsNone(self.made.come(self.token, 11_000))

    def test_in_time(self) -> None:
        """After ten seconds it is good for nothing."""
        self.assertIsNone(self.made.come(self.token, 11_001))

    def test_no_other(self) -> None:
        for token in (bytes(32), self.token[:-1], b""):
            self.assertIsNone(self.made.come(token, 1000))

    def test_the_sender_has_gone(self) -> None:
        """Nobody is joined to one that did not wait."""
        self.made.forget("sender")
        self.assertIsNone(self.made.come(self.token, 1000))
        self.assertEqual((self.made.joined, self.made.waiting), (0, 0))

    def test_the_link_has_gone(self) -> None:
        """Who was called comes all the same."""
        self.made.unlink("b")
        self.assertEqual(self.made.come(self.token, 1000), "sender")


@attrs.define
class _Model:
    """What should be there, counted in the simplest way."""

    links: dict[str, str] = attrs.field(factory=dict)
    claims: dict[bytes, str] = attrs.field(factory=dict)
    senders: dict[str, tuple[str, bytes, int]] = attrs.field(factory=dict)
    shown: set[bytes] = attrs.field(factory=set)


class RegistryMachine(RuleBasedStateMachine):
    """Any course of events: the registry agrees with the model, and forgets what has gone."""

    NAMES = st.sampled_from(["bob", "carol"])

    def __init__(self) -> None:
        super().__init__()
        self.made = registry(
            links=3, links_per_principal=2, epochs_per_link=2, joined=4, joined_per_principal=3
        )
        self.model = _Model()
        self.now = 0
        self.number = 0

    def fresh(self) -> str:
        self.number += 1
        return str(self.number)

    @rule(name=NAMES)
    def link(self, name: str) -> None:
        links, link = self.model.links, self.fresh()
        own = [each for each, its in links.items() if its == name]
        oldest = own[0] if len(own) >= 2 else None
        full = len(links) >= 3 and oldest is None
        try:
            displaced = self.made.link(link, name, HERE)
        except RefusedByPolicy:
            assert full
        else:
            assert not full
            assert displaced == oldest
            if oldest is not None:
                self.gone(oldest)
            links[link] = name

    def gone(self, link: str) -> None:
        del self.model.links[link]
        self.model.claims = {e: by for e, by in self.model.claims.items() if by != link}

    @precondition(lambda self: self.model.links)
    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(sorted(self.model.links)))
        self.made.unlink(link)
        self.gone(link)

    @precondition(lambda self: self.model.links)
    @rule(data=st.data(), epoch_id=st.sampled_from(EPOCHS[:4]))
    def claim(self, data: st.DataObject, epoch_id: bytes) -> None:
        model = self.model
        link = data.draw(st.sampled_from(sorted(model.links)))
        holder = model.claims.get(epoch_id)
        if holder == link:
            expected = Verdict.YES
        elif list(model.claims.values()).count(link) >= 2:
            expected = Verdict.TOO_MANY
        elif holder is not None and model.links[holder] != model.links[link]:
            expected = Verdict.NOT_YOURS
        else:
            expected = Verdict.YES
        assert self.made.claim(link, epoch_id) == expected
        if expected == Verdict.YES:
            model.claims[epoch_id] = link

    @precondition(lambda self: self.model.links)
    @rule(data=st.data(), epoch_id=st.sampled_from(EPOCHS[:4]))
    def release(self, data: st.DataObject, epoch_id: bytes) -> None:
        link = data.draw(st.sampled_from(sorted(self.model.links)))
        self.made.release(link, epoch_id)
        if self.model.claims.get(epoch_id) == link:
            del self.model.claims[epoch_id]

    @precondition(lambda self: self.model.links)
    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(sorted(self.model.links)))
        name, sender = self.model.links[link], self.fresh()
        to_it = [to for to, _, _ in self.model.senders.values() if to == name]
        full = len(self.model.senders) >= 4 or len(to_it) >= 3
        try:
            token = self.made.call(link, sender, HERE, self.now)
        except RefusedByPolicy:
            assert full
        else:
            assert not full
            self.model.senders[sender] = name, token, self.now

    @precondition(lambda self: self.model.senders)
    @rule(data=st.data())
    def come(self, data: st.DataObject) -> None:
        sender = data.draw(st.sampled_from(sorted(self.model.senders)))
        _, token, since = self.model.senders[sender]
        good = token not in self.model.shown and self.now - since <= 10_000
        assert self.made.come(token, self.now) == (sender if good else None)
        self.model.shown.add(token)

    @precondition(lambda self: self.model.senders)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        sender = data.draw(st.sampled_from(sorted(self.model.senders)))
        self.made.forget(sender)
        self.made.forget(sender)
        del self.model.senders[sender]

    @rule(milliseconds=st.integers(1, 6000))
    def time_passes(self, milliseconds: int) -> None:
        self.now += milliseconds

    @invariant()
    def agrees(self) -> None:
        made, model = self.made, self.model
        assert made.links == len(model.links)
        waiting = sum(t not in model.shown for _, t, _ in model.senders.values())
        assert made.waiting == waiting
        assert made.joined == len(model.senders) - waiting
        for epoch_id in EPOCHS[:4]:
            assert made.holder(epoch_id) == model.claims.get(epoch_id)


RegistryMachine.TestCase.settings = PROPERTY
RegistryModelTests = RegistryMachine.TestCase
