"""docs/cluster.md: what keeps several KDCs one."""

from __future__ import annotations

from tests.hostile.mutants._mutant import Mutant, of

__all__ = ["MUTANTS"]

_TESTS = "tests.store.test_etcd tests.store.test_etcd_seeds tests.store.test_etcd_api"
_MOVING = "tests.store.test_moving"

MUTANTS: list[Mutant] = [
    *of(
        "kdc/store/etcd/view.py",
        _TESTS,
        (
            "cluster",
            "the lines are those that the head is about",
            "        if expected != total or count != head.count:\n",
            "        if count != head.count:\n",
        ),
        (
            "cluster",
            "a start reads what the head is about",
            "        if found != total or len(self._table) != head.count:\n",
            "        if len(self._table) != head.count:\n",
        ),
        (
            "cluster",
            "changes are in a chain",
            "if head.after != self.generation or head.generation < head.after:",
            "if False:",
        ),
        (
            "cluster",
            "what is read again is no older",
            "    if new.generation < old.generation:\n",
            "    if False:\n",
        ),
        (
            "cluster",
            "a line under an unknown key is no line",
            '            if key_id not in self.masters.by_id and not (\n                self.refresh() and key_id in self.masters.by_id\n            ):\n                raise DoesNotFollow(\n                    f"there are',
            '            if False:\n                raise DoesNotFollow(\n                    f"there are',
        ),
        (
            "cluster",
            "a line is under its own name",
            "if not whole or name_of(line) != name:",
            "if not whole:",
        ),
    ),
    *of(
        "kdc/store/etcd/wire.py",
        _TESTS,
        (
            "cluster",
            "a change follows what it was decided on",
            'return {"compare": [compared],',
            'return {"compare": [],',
        ),
    ),
    *of(
        "kdc/store/etcd/changing.py",
        _TESTS,
        (
            "cluster",
            "a lost answer is a doubt",
            "doubtful = doubtful or not isinstance(error, Unsent | Denied)",
            "doubtful = False",
        ),
        (
            "cluster",
            "whose change came is looked up",
            "return doubtful and self._was_ours(sent)",
            "return doubtful",
        ),
        (
            "cluster",
            "a refusal is as new as a change",
            "            if now == head_revision:\n",
            "            if True:\n",
        ),
    ),
    *of(
        "kdc/store/etcd/following.py",
        _TESTS,
        (
            "cluster",
            "memory has what is confirmed",
            "lambda: self._has(revision), _CATCH_UP_SECONDS",
            "lambda: True, _CATCH_UP_SECONDS",
        ),
        (
            "cluster",
            "what is damaged is never confirmed",
            "return self._confirmed if self.usable else _NEVER",
            "return self._confirmed",
        ),
    ),
    *of(
        "kdc/store/etcd/opening.py",
        _TESTS,
        (
            "cluster",
            "an older state is refused at the start",
            "elif before is not None and before > view.generation:",
            "elif False:",
        ),
        (
            "cluster",
            "what was lost is no new store",
            "if self._files.exists(self._paths.generation):",
            "if False:",
        ),
        (
            "cluster",
            "a key under which there may be a head stays",
            "        if self._took_head_back() and self.made_key:",
            "        if self.made_key:",
        ),
        (
            "cluster",
            "a head of a start that failed goes",
            '            return transaction_answer(self._link.post("/v3/kv/txn", request, CALL_SECONDS))[0]',
            "            return False",
        ),
    ),
    *of(
        "kdc/store/nodes.py",
        "tests.store.test_nodes",
        (
            "cluster",
            "what a node tells is bounded before it is parsed",
            "        if len(text) > MAX_NODE_BYTES:\n",
            "        if False:\n",
        ),
        (
            "cluster",
            "what a node tells is what it should be",
            "    if not isinstance(value, str) or not fits(value):\n",
            "    if not isinstance(value, str):\n",
        ),
        (
            "cluster",
            "one's own bound counts, whatever others tell",
            "return max(own_milliseconds, *bounds, 0)",
            "return max(*bounds, 0)",
        ),
    ),
    *of(
        "kdc/admin/nodes.py",
        "tests.admin.test_nodes",
        (
            "cluster",
            "who does not know the others names the longest bound",
            "        bound = LONGEST_BOUND_MILLISECONDS\n",
            "        bound = nodes.bound_milliseconds\n",
        ),
        (
            "cluster",
            "a change is in force at the slowest node, too",
            "bound = slowest(nodes.read(), nodes.bound_milliseconds)",
            "bound = nodes.bound_milliseconds",
        ),
    ),
    *of(
        "kdc/store/etcd/checking.py",
        "tests.store.test_etcd_checking",
        (
            "cluster",
            "a check tells of an older state",
            "        if before is not None and before > view.generation:\n",
            "        if False:\n",
        ),
    ),
    *of(
        "kdc/store/etcd/announcing.py",
        "tests.store.test_nodes",
        (
            "cluster",
            "a node is seen for as long as it may give keys",
            "max(_LEASE_SECONDS, 2 * bound_milliseconds // 1000)",
            "_LEASE_SECONDS",
        ),
        (
            "cluster",
            "a lease that was lost is granted anew",
            "if self._lease and not kept_of(",
            "if False and not kept_of(",
        ),
    ),
    *of(
        "kdc/store/etcd/filling.py",
        _MOVING,
        (
            "cluster",
            "of two that move one ends",
            "            if value != head.text():  # else it may be ours, whose answer was lost\n",
            "            if False:\n",
        ),
        (
            "cluster",
            "what was moved is read back",
            "        return differed or bool(changes)\n",
            "        return False\n",
        ),
    ),
    *of(
        "kdc/store/moving/_there.py",
        _MOVING,
        (
            "cluster",
            "nothing older is moved over it",
            "    if before > source.header.generation:\n",
            "    if False:\n",
        ),
        (
            "cluster",
            "the way back is not turned",
            '    if found.state == "closed" and source.moved:\n',
            "    if False:\n",
        ),
        (
            "cluster",
            "the file has another name before nodes start",
            "    rename()\n    filling.finish(revision, sealed)\n",
            "    filling.finish(revision, sealed)\n    rename()\n",
        ),
        (
            "cluster",
            "whose lock it is is looked at again",
            "if at is None or (at.st_dev, at.st_ino) != (ours.st_dev, ours.st_ino):",
            "if False:",
        ),
    ),
    *of(
        "kdc/store/moving/_files.py",
        _MOVING,
        (
            "cluster",
            "another master key is not written over",
            "            if key_id not in MasterKeys.read(self._files, path).by_id:\n",
            "            if False:\n",
        ),
        (
            "cluster",
            "another key is not written over",
            "                elif read_whole(self._files, target) != content:\n",
            "                elif False:\n",
        ),
        (
            "cluster",
            "an older state is not moved",
            "        if kept is not None and kept > generation:\n",
            "        if False:\n",
        ),
    ),
    *of(
        "kdc/store/moving/_back.py",
        _MOVING,
        (
            "cluster",
            "what is not whole is not closed",
            "            _load(sides, keys)  # is it whole?\n",
            "",
        ),
    ),
    *of(
        "kdc/store/etcd/rotating.py",
        _TESTS,
        (
            "cluster",
            "a rotation is never gone back",
            "    if now in key_ids[:1] and len(key_ids) > 1:\n",
            "    if False:\n",
        ),
        (
            "cluster",
            "the head goes over when every line has",
            "if view.head.key_id == key_id or not all(",
            "if view.head.key_id == key_id or False and not all(",
        ),
    ),
    *of(
        "kdc/admin/nodes.py",
        "tests.admin.test_nodes",
        (
            "cluster",
            "every node has the new master key before",
            "    if without:\n",
            "    if False:\n",
        ),
    ),
    *of(
        "kdc/store/etcd/api.py",
        _TESTS,
        (
            "cluster",
            "without TLS only this machine is etcd",
            "            if outside:\n",
            "            if False:\n",
        ),
        (
            "cluster",
            "our key for etcd is nobody else's",
            "                read_private(self.key or self.certificate, _MAX_PEM)\n",
            "",
        ),
    ),
    *of(
        "kdc/store/etcd/refusals.py",
        "tests.store.test_etcd_tls tests.store.test_etcd_api",
        (
            "cluster",
            "a token from before users were changed is renewed",
            "    if grpc == _UNAUTHENTICATED or message == _LOG_IN_AGAIN:\n",
            "    if grpc == _UNAUTHENTICATED:\n",
        ),
        (
            "cluster",
            "a user is no use where nobody asks for one",
            "    if message == _NO_USERS:\n",
            "    if False:\n",
        ),
    ),
]
