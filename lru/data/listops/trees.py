"""ListOps expressions: their vocabulary, value and text form, and a generator in NumPy.

An expression is a digit, or an operator with its arguments: `[MAX 2 [MIN 4 7 ] 0 ]`. Its tokens, in
order from left to right, are digits, operators and closing brackets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from lru.errors import UserError

VOCABULARY = ("<pad>", "<unk>", "<eos>", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]")
PAD, UNKNOWN, EOS, ZERO = 0, 1, 2, 3
NINE, MIN, MAX, MED, SM, CLOSE = 12, 13, 14, 15, 16, 17

_IDS = {symbol: index for index, symbol in enumerate(VOCABULARY) if index >= ZERO}
_PARENTHESES = ("(", ")")
_TREES_A_ROUND = 8192  # do not change: with another value, seeds give other expressions
_PATIENCE = 1 << 20  # trees without a new expression before giving up


def evaluate(tokens: Iterable[int]) -> int:
    """Returns the value of an expression, computed with a stack of the open operators.

    MED of an even number of arguments is the mean of the middle two, truncated; SM is the sum
    modulo 10. Source: Nangia & Bowman (2018), with LRA's four operators.

    Args:
      tokens: token ids `(t,)`, without padding or end of sequence.

    Raises:
      UserError: if the tokens do not form exactly one expression.

    Example:
      >>> evaluate(parse("( ( ( [MED 2 ) 9 ) ] )"))
      5
    """
    open_lists: list[list[int]] = [[]]
    for token in map(int, tokens):  # uint8 would overflow in a sum
        if ZERO <= token <= NINE:
            open_lists[-1].append(token - ZERO)
        elif token == CLOSE:
            if len(open_lists) == 1:
                raise UserError("the expression has a ] without an open operator")
            operator, *arguments = open_lists.pop()
            open_lists[-1].append(_value(operator, arguments))
        elif MIN <= token <= SM:
            open_lists.append([token])
        else:
            raise UserError(f"the token id {token} cannot occur in an expression")
    if len(open_lists) > 1:
        raise UserError(f"the expression ends with {len(open_lists) - 1} operators still open")
    if len(open_lists[0]) != 1:
        raise UserError(f"the tokens form {len(open_lists[0])} expressions; expected one")
    return int(open_lists[0][0])


def _value(operator: int, arguments: list[int]) -> int:
    if not arguments:
        raise UserError(f"the operator {VOCABULARY[operator]} has no arguments")
    if operator == MIN:
        return min(arguments)
    if operator == MAX:
        return max(arguments)
    if operator == SM:
        return sum(arguments) % 10
    ordered = sorted(arguments)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2


def parse(text: str) -> np.ndarray:
    """Returns the tokens `(t,)`, uint8, of an expression in the text form of LRA's files.

    The parentheses add no information to the brackets, so they are dropped, as in LRA's reader.

    Raises:
      UserError: if a symbol is unknown, or the numbers of ( and ) differ.

    Example:
      >>> parse("( ( ( [MAX 2 ) 9 ) ] )").tolist()
      [14, 5, 12, 17]
    """
    symbols = text.split()
    opened, closed = symbols.count("("), symbols.count(")")
    if opened != closed:
        raise UserError(
            f"the expression is unbalanced: it has {opened} opening and {closed} closing "
            "parentheses"
        )
    try:
        tokens = [_IDS[symbol] for symbol in symbols if symbol not in _PARENTHESES]
    except KeyError as error:
        known = " ".join(_IDS)
        raise UserError(f"unknown symbol {error.args[0][:40]!r}; expected one of {known}") from None
    return np.array(tokens, np.uint8)


def to_text(tokens: Iterable[int]) -> str:
    """Returns the text of an expression, as in LRA's files; `parse` converts it back.

    For each argument and for the closing bracket of an operator, a pair of parentheses encloses
    everything from the operator to the end of that argument or bracket.

    Example:
      >>> to_text([14, 5, 12, 17])
      '( ( ( [MAX 2 ) 9 ) ] )'
    """
    open_lists: list[list[str]] = [[]]
    for token in tokens:
        symbol = VOCABULARY[token]
        if symbol == "]":
            operator, *steps = [*open_lists.pop(), symbol]
            open_lists[-1].append("( " * len(steps) + f"{operator} " + " ) ".join(steps) + " )")
        elif symbol.startswith("["):
            open_lists.append([symbol])
        else:
            open_lists[-1].append(symbol)
    return open_lists[0][0]


class Rules(NamedTuple):
    """The options of the generator; LRA's are `Rules(10, 10, 500, 2000)`."""

    max_depth: int  # a digit alone has depth 1
    max_args: int  # of an operator, at most 255; an operator has at least 2
    min_length: int  # an expression has more tokens than this
    max_length: int  # an expression has fewer tokens than this


def generate(seed: int, rules: Rules) -> Iterator[tuple[np.ndarray, int]]:
    """Yields different expressions made by LRA's rules, each with its value.

    Nodes at depths less than `max_depth` are operators with probability 1/4; all other nodes are
    digits. Digits, operators and their numbers of arguments, from 2 to `max_args`, are drawn
    uniformly. Trees of the wrong length and repeated trees are discarded.

    Source: `lra_benchmarks/data/listops.py` of google-research/long-range-arena. That program takes
    no seed, so the expressions here differ from the released expressions but have the same
    distribution.

    Yields:
      `(tokens, value)`: `(t,)` uint8, and a digit.

    Raises:
      UserError: if no new expression of an allowed length is found in many trees.
    """
    rng = np.random.default_rng(seed)
    seen: set[bytes] = set()
    fruitless = 0
    while fruitless < _PATIENCE:
        fruitless += _TREES_A_ROUND
        for tokens, value in sample(rng, _TREES_A_ROUND, rules):
            digest = hashlib.blake2b(tokens.tobytes(), digest_size=16).digest()
            if digest not in seen:
                seen.add(digest)
                fruitless = 0
                yield tokens, value
    raise UserError(
        f"there seem to be only {len(seen)} different ListOps expressions with "
        f"{rules._asdict()}: request fewer, or allow more lengths"
    )


def sample(rng: np.random.Generator, num_trees: int, rules: Rules) -> list[tuple[np.ndarray, int]]:
    """Draws `num_trees` trees, and returns `(tokens, value)` of those with an allowed length."""
    levels, length = _grow(rng, num_trees, rules)
    allowed = (rules.min_length < length) & (length < rules.max_length)
    if not allowed.any():
        return []
    levels = [Level(*(field[allowed[level.tree]] for field in level)) for level in levels]
    lengths, values = _measure(levels)
    ends = np.cumsum(lengths[0])
    return list(zip(np.split(_emit(levels, lengths), ends[:-1]), values[0].tolist(), strict=True))


class Level(NamedTuple):
    """The nodes of all trees at one depth; children are in the order of their parents."""

    tree: np.ndarray  # (nodes,) int32, the index of the node's tree
    symbol: np.ndarray  # (nodes,) uint8, the token of a digit or an operator
    num_children: np.ndarray  # (nodes,) uint8, 0 for a digit

    def families(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the index, the number of children and the first child of each operator.

        The first child is an index in the next level.
        """
        operators = np.flatnonzero(self.num_children)
        num_children = self.num_children[operators].astype(np.int64)
        return operators, num_children, np.cumsum(num_children) - num_children


def _grow(rng: np.random.Generator, num_trees: int, rules: Rules) -> tuple[list[Level], np.ndarray]:
    """Draws the trees from the root down; returns their levels and `(num_trees,)` lengths.

    A tree that is already too long stops growing; its length is then only a lower bound.
    """
    levels = []
    length = np.zeros(num_trees, np.int64)
    tree = np.arange(num_trees, dtype=np.int32)
    for depth in range(1, rules.max_depth + 1):
        symbol = rng.integers(ZERO, MIN, len(tree), np.uint8)
        num_children = np.zeros(len(tree), np.uint8)
        if depth < rules.max_depth:
            inner = np.flatnonzero(rng.integers(4, size=len(tree), dtype=np.uint8) == 0)
            symbol[inner] = rng.integers(MIN, CLOSE, len(inner), np.uint8)
            num_children[inner] = rng.integers(2, rules.max_args, len(inner), np.uint8, True)
        levels.append(Level(tree, symbol, num_children))
        length += np.bincount(tree, 1 + (num_children > 0), num_trees).astype(np.int64)
        tree = np.repeat(tree, num_children)
        too_long = length + np.bincount(tree, minlength=num_trees) >= rules.max_length
        length[too_long] = rules.max_length
        tree = tree[~too_long[tree]]
    return levels, length


def _measure(levels: list[Level]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the number of tokens and the value of each node's subtree, level by level."""
    lengths: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for level in reversed(levels):
        length = np.ones(len(level.tree), np.int64)
        value = level.symbol - np.uint8(ZERO)
        operators, num_children, first_child = level.families()
        if len(operators):
            length[operators] = 2 + np.add.reduceat(lengths[-1], first_child)
            value[operators] = _apply(level.symbol[operators], num_children, values[-1])
        lengths.append(length)
        values.append(value)
    return lengths[::-1], values[::-1]


def _apply(operator: np.ndarray, num_children: np.ndarray, children: np.ndarray) -> np.ndarray:
    """Returns the values `(n,)` of n operators, given the values of all their children."""
    columns = np.arange(num_children.max())
    # Missing arguments are 10: they sort behind every digit, and add 0 to a sum modulo 10.
    arguments = np.full((len(operator), len(columns)), 10, np.uint8)
    arguments[columns < num_children[:, None]] = children
    arguments.sort(axis=1)
    rows = np.arange(len(operator))
    middle = (arguments[rows, (num_children - 1) // 2] + arguments[rows, num_children // 2]) // 2
    return np.select(
        [operator == MIN, operator == MAX, operator == MED],
        [arguments[:, 0], arguments[rows, num_children - 1], middle],
        arguments.sum(axis=1) % 10,
    )


def _emit(levels: list[Level], lengths: list[np.ndarray]) -> np.ndarray:
    """Returns the concatenated tokens of all trees, `(lengths[0].sum(),)` uint8.

    `lengths` is a result of `_measure`.
    """
    tokens = np.empty(lengths[0].sum(), np.uint8)
    start = np.cumsum(lengths[0]) - lengths[0]
    for depth, level in enumerate(levels):
        tokens[start] = level.symbol
        operators, num_children, first_child = level.families()
        if not len(operators):
            break
        tokens[start[operators] + lengths[depth][operators] - 1] = CLOSE
        before = np.cumsum(lengths[depth + 1]) - lengths[depth + 1]
        parent_start = start[operators] + 1 - before[first_child]
        start = before + np.repeat(parent_start, num_children)
    return tokens
