"""A regular expression as an automaton over the bytes of UTF-8.

outlines-core compiles the expression, in the syntax of Rust's regex crate. The text must match as a
whole. Back-references, look-around, word boundaries and anchors inside an expression are refused,
because no automaton of this kind can have them.

A short expression may have an automaton of millions of states, as [ab]*a[ab]{24} does. So it is
compiled in a helper process with little time and memory (files/limited.py).
"""

import array
import base64
import re
import warnings
from typing import NamedTuple

import numpy as np
import outlines_core

from files.limited import LimitError, limited

NO_STATE = -1
# The compiler follows an expression only until it prefers to end a match: of a|ab it would keep a
# alone. Behind this mark, a noncharacter, there is one end and all matches reach it. It also stands
# before the expression. Otherwise the compiler looks for the texts that a match may begin with, and
# that takes twice as long for each further character of "[^"]{0,20}".
_MARK = "\U0010ffff"
_END = 256  # the id of the token that ends a text, for the compiler
_VOCABULARY = outlines_core.Vocabulary(_END, {bytes([byte]): [byte] for byte in range(256)})
LARGEST = 50_000  # parts of an expression whose repetitions are written out
LONGEST = 1_000_000  # characters of an expression
SECONDS, MEMORY = 5.0, 1 << 30  # of processor time, and bytes, to compile an expression
# Escapes, classes of characters, repetitions, the beginnings and ends of groups, and characters.
_PART = re.compile(
    r"\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|\{\d+(?:,\d*)?\}"
    r"|\(\?[=!]|\(\?<[=!]|\(\?P=|.",
    re.DOTALL,
)
_TIMES = re.compile(r"\{(\d+)(?:,(\d*))?\}")
# Parts that stand for many characters of several bytes: beginning -> about how many states.
_SIZES = {r"\w": 50, r"\W": 50, r"\p": 50, r"\P": 50, r"\d": 10, r"\D": 10, ".": 4, "[^": 4}
_LOOK_AROUND = ("(?=", "(?!", "(?<=", "(?<!")


class ByteAutomaton(NamedTuple):
    """A deterministic automaton over bytes. Its initial state is 0.

    Every state can be reached, and from every state an accepting one can be reached.

    Attributes:
      next: [S, 256] int32, the state behind a byte; -1 where the byte is not allowed.
      accepting: [S] bool, the states at which a text may end.
    """

    next: np.ndarray
    accepting: np.ndarray


def compile_regex(expression: str) -> ByteAutomaton:
    """Compiles an expression.

    An anchor ^ at its beginning or $ at its end says nothing new and is left out.

    Raises:
      ValueError: the expression is empty, invalid, or has a part that is refused. The error says
        which in one line.
    """
    if not expression:
        raise ValueError("the regular expression is empty")
    try:
        expression.encode()
    except UnicodeEncodeError:
        raise ValueError("the regular expression is not UTF-8") from None
    if len(expression) > LONGEST:
        raise ValueError(
            f"{_short(expression)}: {len(expression):,} characters, more than the {LONGEST:,} of "
            "the longest regular expression"
        )
    inner = _without_anchors(expression)
    _check_parts(inner)
    try:
        found = limited("data.text.byte_automaton:_compiled", SECONDS, MEMORY)(inner)
    except LimitError as error:
        raise ValueError(f"{_short(expression)}: {error}: demand less") from None
    except ValueError as error:
        raise ValueError(f"{_short(expression)}: {error}") from None
    edges, final, initial = (np.frombuffer(base64.b64decode(x), np.int32) for x in found.split())
    source, byte, target = edges.reshape(-1, 3).T
    count = int(max(edges.max(initial=0), initial[0])) + 1
    following = np.full((count, 256), NO_STATE, np.int32)
    following[source, byte] = target
    ends = np.zeros(count + 1, bool)  # one more, for NO_STATE
    ends[final] = True
    at = np.arange(count)
    for letter in _MARK.encode():
        at = np.where(at == NO_STATE, NO_STATE, following[at, letter])
    automaton = _pruned(following, ends[at], int(initial[0]))
    if automaton is None:
        raise ValueError(f"{_short(expression)}: no text matches this regular expression")
    return automaton


def _compiled(expression: str) -> str:
    """The automaton of an expression with its mark, as text; runs in a helper process.

    Returns:
      three arrays of int32 in base64, with spaces between them: [E, 3], the source, the byte and
      the target of each transition; the final states; and the initial state. Behind a match, the
      mark leads to a final state.

    Raises:
      ValueError: it is not an expression that can be used.
    """
    try:
        index = outlines_core.Index(f"{_MARK}(?:{expression}){_MARK}", _VOCABULARY)
    except ValueError as error:
        raise ValueError(_reason(expression, str(error))) from None
    transitions = index.get_transitions()
    numbers = {state: number for number, state in enumerate(transitions)}
    edges = array.array("i")
    for state, number in numbers.items():
        for byte, to in transitions[state].items():
            if byte != _END:
                edges.extend((number, byte, numbers[to]))
    final = array.array("i", [numbers[state] for state in index.get_final_states()])
    state = index.get_initial_state()
    for byte in _MARK.encode():
        state = transitions[state][byte]
    initial = array.array("i", [numbers[state]])
    return " ".join(base64.b64encode(x).decode() for x in (edges, final, initial))


def _pruned(following: np.ndarray, accepting: np.ndarray, initial: int) -> ByteAutomaton | None:
    """The states on a way from the initial state to an accepting one; None if there is none."""
    source, byte = np.nonzero(following != NO_STATE)
    target = following[source, byte]
    first = np.zeros(len(accepting), bool)
    first[initial] = True
    live = reached(source, target, first) & reached(target, source, accepting)
    if not live[initial]:
        return None
    kept = np.flatnonzero(live)
    order = np.concatenate([[initial], kept[kept != initial]])
    number = np.full(len(accepting) + 1, NO_STATE, np.int32)
    number[order] = np.arange(len(order))
    return ByteAutomaton(number[following[order]], accepting[order])


def reached(source: np.ndarray, target: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The states that can be reached: edges [E] int, first [S] bool -> [S] bool."""
    edges = np.unique(np.stack([source, target], axis=1), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]]
    begin = np.searchsorted(edges[:, 0], np.arange(len(first) + 1))
    found, todo = first.copy(), np.flatnonzero(first).tolist()
    while todo:
        state = todo.pop()
        for to in edges[begin[state] : begin[state + 1], 1].tolist():
            if not found[to]:
                found[to] = True
                todo.append(to)
    return found


def _without_anchors(expression: str) -> str:
    inner = expression.removeprefix("^")
    escapes = len(inner[:-1]) - len(inner[:-1].rstrip("\\"))
    return inner[:-1] if inner.endswith("$") and escapes % 2 == 0 else inner


def _check_parts(expression: str) -> None:
    """Raises ValueError for parts that no automaton can have, and for an expression too large."""
    sizes, last = [0], 0  # of the open groups, and of the last part
    for part in _PART.finditer(expression):
        found = part[0]
        if found == "[":  # the pattern would look for its end from each further one
            raise ValueError(
                f"{_short(expression)}: not a regular expression: unterminated character set at "
                f"position {part.start()}"
            )
        if found in _LOOK_AROUND:
            raise ValueError(f"{_short(expression)}: look-around ({found}) is not possible here")
        if re.fullmatch(r"\\[1-9k]|\(\?P=", found):
            raise ValueError(f"{_short(expression)}: back-references are not possible here")
        if found in ("^", "$"):
            raise ValueError(
                f"{_short(expression)}: the anchor {found} can only be the first or last character"
            )
        if found == "(":
            sizes.append(0)
            continue
        if found == ")" and len(sizes) == 1:
            sizes = []
            break
        if times := _TIMES.fullmatch(found):
            digits = (times[2] or times[1]).lstrip("0") or "0"
            more = last * max(int(digits) - 1, 0) if len(digits) < 10 else LARGEST + 1
            last += more
            sizes[-1] += more
            continue
        last = sizes.pop() if found == ")" else _SIZES.get(found[:2], 1)
        sizes[-1] += last
    if len(sizes) != 1:
        raise ValueError(f"{_short(expression)}: a parenthesis has no partner")
    if sizes[0] > LARGEST:
        raise ValueError(
            f"{_short(expression)}: too large with its repetitions written out: demand fewer"
        )


def _reason(expression: str, error: str) -> str:
    """Why the compiler refuses an expression."""
    if "word boundaries" in error:
        return r"the word boundaries \b and \B are not possible here"
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(expression)
    except re.error as fault:
        return f"not a regular expression: {fault}"
    return "not a regular expression of the kind that can be used (the syntax of Rust's regex)"


def _short(expression: str) -> str:
    return expression if len(expression) <= 60 else f"{expression[:57]}..."
