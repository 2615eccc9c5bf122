"""The automaton over tokens that a constraint on an answer is compiled to.

It is made from the automaton over bytes of a regular expression (data/text/byte_automaton.py). All
tokens are walked from every state along allowed bytes only, as paths of a tree of their bytes.
Tokens that lead from the same states to the same states are one class, and the classes that lead
from one state to another are a group. So nothing has the size states x vocabulary: the transitions
are (source, group, target), and a group is a list of classes (docs/MODEL.md, Obey).
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data.text.byte_automaton import NO_STATE, ByteAutomaton, reached

NEVER = 0  # the class of the tokens that are not allowed anywhere
PAIRS = 1 << 22  # number of (state, token) that are walked at a time, at most
MOST_TRIES = 1 << 30  # bytes of tokens that are tried behind states, in all: 45 s of a core


@dataclasses.dataclass(frozen=True)
class Automaton:
    """Which tokens may follow each other. The initial state is 0.

    From every state an accepting state can be reached. The last state is the end, if a stop token
    can end an answer: stop tokens lead there from accepting states, and the tokens that fill up a
    canvas stay there.

    Attributes:
      classes: [V] int32, the class of each token; NEVER for a token that no edge has.
      member_class, member_group: [M] int32, the classes of each group, sorted by group.
      source, group, target: [E] int32, the edges, sorted by target. Two states have at most one.
      accepting: [S] bool, states at which an answer may end; the end is one of them.
      num_classes, num_groups: numbers of classes, NEVER among them, and of groups.
    """

    classes: np.ndarray
    member_class: np.ndarray
    member_group: np.ndarray
    source: np.ndarray
    group: np.ndarray
    target: np.ndarray
    accepting: np.ndarray
    num_classes: int
    num_groups: int

    @property
    def num_states(self) -> int:
        return len(self.accepting)

    def has_class(self, klass: int) -> np.ndarray:
        """The edges [E] bool that the tokens of a class take."""
        groups = self.member_group[self.member_class == klass]
        return np.isin(self.group, groups)


def token_automaton(
    text: ByteAutomaton,
    token_bytes: Sequence[bytes | None],
    vocab_size: int,
    stop_ids: Sequence[int],
    fill_ids: Sequence[int],
) -> Automaton:
    """The automaton of the answers whose text is accepted.

    Args:
      text: the automaton of the text.
      token_bytes: the bytes of each id; None for tokens that are no text.
      vocab_size: V, at least as many as there are token_bytes.
      stop_ids: tokens that end an answer. They are never part of its text.
      fill_ids: other tokens that may follow the stop token.

    Raises:
      ValueError: no tokens give a text that is accepted, or there are too many states for so many
        tokens.
    """
    stop_ids = sorted(set(stop_ids))
    ends = {*stop_ids, *fill_ids}
    spelled = {i: b for i, b in enumerate(token_bytes) if b and i not in ends}
    strings = sorted(set(spelled.values()))
    tree = _Tree.of(strings)
    tries = _Tries()
    string_classes, representatives = _string_classes(text, tree, tries)
    few = _Tree.of([strings[i] for i in representatives])
    source, target, klass = _edges_of(text, few, tries)
    klass = klass + 1  # representatives are the classes behind NEVER, in order

    forth = np.zeros(len(text.accepting), bool)
    forth[0] = True
    live = reached(source, target, forth) & reached(target, source, text.accepting)
    if not live[0]:
        raise ValueError("the vocabulary has no tokens that give an accepted text")
    kept = live[source] & live[target]
    number = np.cumsum(live) - 1  # state 0 keeps its number
    source, target, klass = number[source[kept]], number[target[kept]], klass[kept]
    accepting, num_classes = text.accepting[live], len(representatives) + 1

    classes = np.full(vocab_size, NEVER, np.int32)
    class_of = dict(zip(strings, (string_classes + 1).tolist(), strict=True))
    classes[list(spelled)] = [class_of[string] for string in spelled.values()]
    if stop_ids:
        end, (stop, fill) = len(accepting), (num_classes, num_classes + 1)
        classes[list(fill_ids)] = fill
        classes[stop_ids] = stop
        last = np.flatnonzero(accepting)
        source = np.concatenate([source, last, [end, end]])
        target = np.concatenate([target, np.full(len(last), end), [end, end]])
        klass = np.concatenate([klass, np.full(len(last), stop), [stop, fill]])
        accepting, num_classes = np.append(accepting, True), num_classes + 2
    return _grouped(classes, source, target, klass, accepting, num_classes)


def _grouped(
    classes: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    klass: np.ndarray,
    accepting: np.ndarray,
    num_classes: int,
) -> Automaton:
    """Makes groups of the edges' classes, and numbers the classes anew that edges have."""
    used, klass = np.unique(klass, return_inverse=True)
    renumbered = np.full(num_classes, NEVER, np.int32)
    renumbered[used] = np.arange(1, len(used) + 1)
    klass = klass + 1
    states = np.int64(len(accepting))
    pairs, edge = np.unique(target * states + source, return_inverse=True)
    sums = np.zeros(len(pairs), np.uint64)
    np.add.at(sums, edge, _mixed(klass.astype(np.uint64)))
    _, first, group = np.unique(sums, return_index=True, return_inverse=True)
    members = first[group[edge]] == edge  # each group is read off its first edge
    member_group, member_class = group[edge][members], klass[members]
    order = np.lexsort((member_class, member_group))
    as_int = np.int32
    return Automaton(
        classes=renumbered[classes],
        member_class=member_class[order].astype(as_int),
        member_group=member_group[order].astype(as_int),
        source=(pairs % states).astype(as_int),
        group=group.astype(as_int),
        target=(pairs // states).astype(as_int),
        accepting=accepting,
        num_classes=len(used) + 1,
        num_groups=len(first),
    )


class _Tree(NamedTuple):
    """The bytes of sorted strings as a tree. A node is the beginning of strings; 0 is the root.

    Attributes:
      byte: [N] uint8, a node's last byte.
      first, count: [N] int64, its first child, and the number of children, which lie together.
      string: [N] int64, the number of the string that ends at the node; -1 for none.
      size: number of strings.
    """

    byte: np.ndarray
    first: np.ndarray
    count: np.ndarray
    string: np.ndarray
    size: int

    @classmethod
    def of(cls, strings: list[bytes]) -> "_Tree":
        """The tree of strings that are sorted, different and not empty."""
        length = np.array([len(string) for string in strings])
        longest, size = int(length.max(initial=0)), len(strings)
        letters = np.frombuffer(b"".join(s.ljust(longest, b"\0") for s in strings), np.uint8)
        letters = letters.reshape(size, longest)
        # A string makes new nodes behind what it has in common with the string before it.
        same = np.ones(size, bool)
        same[:1] = False
        node, begun = np.zeros(size, np.int64), 1
        byte, parent, string = [np.zeros(1, np.uint8)], [np.zeros(0, np.int64)], [np.array([-1])]
        for depth in range(longest):
            here = length > depth
            before = np.roll(letters[:, depth], 1) == letters[:, depth]
            same = same & np.roll(here, 1) & before
            new = here & ~same
            parent.append(node[new])
            node = np.where(here, begun - 1 + np.cumsum(new), node)
            ends = np.full(int(new.sum()), -1)
            whole = np.flatnonzero(length == depth + 1)
            ends[node[whole] - begun] = whole
            byte.append(letters[new, depth])
            string.append(ends)
            begun += len(ends)
        parent_of = np.concatenate(parent)
        count = np.bincount(parent_of, minlength=begun)
        # Children come in the order of their parents, behind the root.
        first = 1 + np.cumsum(count) - count
        return cls(np.concatenate(byte), first, count, np.concatenate(string), size)


class _Tries:
    """How many bytes of tokens may still be tried."""

    def __init__(self) -> None:
        self.left = MOST_TRIES

    def spend(self, count: int) -> None:
        """Counts tries; raises ValueError if there are too many."""
        self.left -= count
        if self.left < 0:
            raise ValueError(
                "it takes too much time, because the answer can go on in too many ways at too many "
                "places: demand less, such as shorter texts"
            )


def _walked(
    text: ByteAutomaton, tree: _Tree, states: np.ndarray, tries: _Tries
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The strings that are allowed behind some states: (source, target, string), depth by depth."""
    source, at, node = states, states, np.zeros(len(states), np.int64)
    while len(node):
        count = tree.count[node]
        tries.spend(int(count.sum()))
        entry = np.repeat(np.arange(len(node)), count)
        begin = np.cumsum(count) - count
        child = tree.first[node][entry] + np.arange(len(entry)) - begin[entry]
        to = text.next[at[entry], tree.byte[child]]
        allowed = to != NO_STATE
        source, at, node = source[entry[allowed]], to[allowed], child[allowed]
        ends = tree.string[node]
        whole = ends >= 0
        yield source[whole], at[whole], ends[whole]


def _string_classes(
    text: ByteAutomaton, tree: _Tree, tries: _Tries
) -> tuple[np.ndarray, np.ndarray]:
    """Classes of strings: (class of each string [T] from 0, the first string of each class).

    A string's hash is a sum over the pairs of states that it joins, so no pair is kept. Two of
    300,000 strings have the same hash by accident with a probability of 1e-8.
    """
    sums = np.zeros(tree.size, np.uint64)
    seen = np.zeros(len(text.accepting), bool)
    seen[0], todo = True, np.array([0])
    at_a_time = max(1, PAIRS // max(tree.size, 1))
    while len(todo):
        states, todo = todo[:at_a_time], todo[at_a_time:]
        found = np.zeros_like(seen)
        for source, target, string in _walked(text, tree, states, tries):
            pair = source.astype(np.uint64) << np.uint64(32) | target.astype(np.uint64)
            np.add.at(sums, string, _mixed(pair))
            found[target] = True
        todo = np.concatenate([todo, np.flatnonzero(found & ~seen)])
        seen |= found
    _, first, classes = np.unique(sums, return_index=True, return_inverse=True)
    order = np.argsort(first)  # so that representatives stay sorted
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return number[classes], first[order]


def _edges_of(
    text: ByteAutomaton, tree: _Tree, tries: _Tries
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(source, target, string) of all states."""
    states = np.arange(len(text.accepting))
    at_a_time = max(1, PAIRS // max(tree.size, 1))
    found = [
        part
        for begin in range(0, len(states), at_a_time)
        for part in _walked(text, tree, states[begin : begin + at_a_time], tries)
    ]
    source, target, string = (np.concatenate(x).astype(np.int64) for x in zip(*found, strict=True))
    return source, target, string


def _mixed(x: np.ndarray) -> np.ndarray:
    """Random-looking uint64 of uint64 (the last steps of splitmix64)."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
