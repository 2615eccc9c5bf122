"""The compiled searches of the Sudoku engine. They take arrays that engine.py has checked.

A set of digits is an int with bit d-1 for digit d. All compiled functions are in this one file.
numba keeps them on disk, and it does not notice when a function of another file that they call has
changed.
"""

import numpy as np
from numba import njit

SIZE = np.bitwise_count(np.arange(1 << 9)).astype(np.int64)  # the number of digits in each set


@njit(cache=True)
def _next(state: np.ndarray) -> int:
    """Advances splitmix64 by one step.

    Args:
      state: uint64 [1], changed in place.

    Returns:
      The upper 63 bits of the random number as a non-negative int64.
    """
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((z ^ (z >> np.uint64(31))) >> np.uint64(1))


@njit(cache=True)
def _search(
    grid: np.ndarray,
    units: np.ndarray,
    first: int,
    first_set: int,
    enough: int,
    limit: int,
    state: np.ndarray,
    found: np.ndarray,
) -> int:
    """Counts the solutions of a grid up to a limit.

    The search branches on a cell with few candidates and tries these in random order. All numbers
    among the arguments must be int64 variables, because numba compiles another copy for a literal.

    Args:
      grid: int8 [n*n], not changed.
      units: the table of unit_table.
      first: the empty cell to branch on first; -1 for any cell.
      first_set: the digits to try in the cell `first`.
      enough: the search branches on the first cell that has at most this many candidates; if there
        is none, on a cell with the fewest. Solving is fast with 1. With 9, a grid is filled cell by
        cell.
      limit: the number of solutions at which the search stops.
      state: uint64 [1], the random state of _next.
      found: int8 [n*n], receives the first solution.

    Returns:
      The number of solutions, at most `limit`.
    """
    cells = len(grid)
    n = 4 if cells == 16 else 9
    full = (1 << n) - 1
    used = np.zeros(3 * n, np.int64)
    work = np.empty((3, cells), np.int64)
    # The cells todo[:depth] are filled, and the cells todo[depth:] are empty.
    todo, untried, placed = work[0], work[1], work[2]
    empty = 0
    for c in range(cells):
        if grid[c] == 0:
            todo[empty] = c
            empty += 1
            continue
        bit = 1 << (grid[c] - 1)
        if (used[units[c, 0]] | used[units[c, 1]] | used[units[c, 2]]) & bit:
            return 0
        for k in range(3):
            used[units[c, k]] |= bit

    count = 0
    depth = 0
    descend = True
    while True:
        if descend and depth == empty:
            count += 1
            if count == 1:
                found[:] = grid
                for j in range(empty):
                    found[todo[j]] = 1
                    while placed[j] >> found[todo[j]]:
                        found[todo[j]] += 1
            if count == limit:
                return count
            descend = False
        if descend:
            fewest, at, options = n + 1, depth, 0
            for j in range(depth, empty):
                c = todo[j]
                free = full & ~(used[units[c, 0]] | used[units[c, 1]] | used[units[c, 2]])
                if depth == 0 and c == first:
                    at, options = j, free & first_set
                    break
                if SIZE[free] < fewest:
                    fewest, at, options = SIZE[free], j, free
                    if fewest <= enough and (depth > 0 or first < 0):
                        break
            todo[depth], todo[at] = todo[at], todo[depth]
            untried[depth] = options
            placed[depth] = 0
        else:
            depth -= 1
            if depth < 0:
                return count

        # Take back the digit at this depth and place the next candidate, if there is one.
        c = todo[depth]
        options = untried[depth]
        bit = options & -options
        if options != bit:
            rest = options
            for _ in range(_next(state) % SIZE[options]):
                rest &= rest - 1
            bit = rest & -rest
        for k in range(3):
            used[units[c, k]] ^= placed[depth] | bit
        placed[depth] = bit
        untried[depth] = options ^ bit
        descend = bit != 0
        depth += descend


@njit(cache=True)
def count_each(grids: np.ndarray, units: np.ndarray, limit: int, found: np.ndarray) -> np.ndarray:
    """Counts the solutions of each grid up to a limit.

    Args:
      grids: int8 [N, n*n].
      units: the table of unit_table.
      limit: the number of solutions at which the search stops.
      found: int8 [N, n*n], receives the first solution of each grid that has one.

    Returns:
      int64 [N].
    """
    state = np.zeros(1, np.uint64)
    counts = np.empty(len(grids), np.int64)
    none, one = np.int64(-1), np.int64(1)
    for i in range(len(grids)):
        counts[i] = _search(grids[i], units, none, none, one, limit, state, found[i])
    return counts


@njit(cache=True)
def _clear(
    cell: int,
    puzzle: np.ndarray,
    solution: np.ndarray,
    used: np.ndarray,
    units: np.ndarray,
    state: np.ndarray,
    other: np.ndarray,
) -> bool:
    """Clears a cell of a puzzle with one solution, unless a second solution would be possible.

    Args:
      cell: int64, a cell with a clue.
      puzzle: int8 [n*n], changed in place.
      solution: int8 [n*n].
      used: int64 [3n], the digits in each unit, changed in place.
      units: the table of unit_table.
      state: uint64 [1], the random state of _next.
      other: int8 [n*n], overwritten.

    Returns:
      Whether the cell was cleared.
    """
    n = len(used) // 3
    one = np.int64(1)
    bit = 1 << (solution[cell] - 1)
    puzzle[cell] = 0
    for k in range(3):
        used[units[cell, k]] ^= bit
    # A second solution would have another digit in the cell.
    taken = used[units[cell, 0]] | used[units[cell, 1]] | used[units[cell, 2]]
    others = ((1 << n) - 1) & ~(taken | bit)
    if others and _search(puzzle, units, cell, others, one, one, state, other):
        puzzle[cell] = solution[cell]
        for k in range(3):
            used[units[cell, k]] ^= bit
        return False
    return True


@njit(cache=True)
def fill(
    seed: int, clues: int, tries: int, units: np.ndarray, puzzle: np.ndarray, solution: np.ndarray
) -> bool:
    """Writes a random puzzle and its one solution into int8 arrays [n*n].

    Returns:
      Whether one of `tries` full grids could be cleared down to the number of clues.
    """
    cells = len(puzzle)
    n = 4 if cells == 16 else 9
    none, one = np.int64(-1), np.int64(1)
    state = np.array([np.uint64(seed)])
    other = np.empty_like(puzzle)
    order = np.arange(cells)
    for _ in range(tries):
        puzzle[:] = 0
        _search(puzzle, units, none, none, one, one, state, solution)
        puzzle[:] = solution
        used = np.full(3 * n, (1 << n) - 1)
        for j in range(cells - 1, 0, -1):
            k = _next(state) % (j + 1)
            order[j], order[k] = order[k], order[j]
        left = cells
        for j in range(cells):
            if left == clues or left - clues > cells - j:
                break
            left -= _clear(order[j], puzzle, solution, used, units, state, other)
        if left == clues:
            return True
    return False


@njit(cache=True)
def rate(grid: np.ndarray, units: np.ndarray) -> int:
    """The level of difficulty(), found with sets of candidates and without any guess."""
    cells = len(grid)
    n = 4 if cells == 16 else 9
    options = np.full(cells, (1 << n) - 1)
    level, left, clue = 0, cells, 0
    while left:
        cell, bit = -1, 0
        while cell < 0 and clue < cells:
            if grid[clue]:
                cell, bit = clue, 1 << (grid[clue] - 1)
            clue += 1
        if cell < 0:
            for c in range(cells):
                if SIZE[options[c]] == 1:
                    cell, bit = c, options[c]
        if cell < 0:
            level = 1
            for unit in range(3 * n):
                once, twice = 0, 0
                for c in range(cells):
                    if units[c, unit // n] == unit:
                        twice |= once & options[c]
                        once |= options[c]
                bit = once & ~twice
                if bit:
                    bit &= -bit
                    for c in range(cells):
                        if units[c, unit // n] == unit and options[c] & bit:
                            cell = c
                    break
        if cell < 0:
            return 2
        for c in range(cells):
            for k in range(3):
                if units[c, k] == units[cell, k]:
                    options[c] &= ~bit
        options[cell] = 0
        left -= 1
    return level


@njit(cache=True)
def fill_kaggle(
    seed: int,
    technique: int,
    tries: int,
    units: np.ndarray,
    puzzle: np.ndarray,
    solution: np.ndarray,
) -> bool:
    """Writes a puzzle of generate_kaggle and its one solution into int8 arrays [81].

    Args:
      technique: the level that the puzzle must have; -1 for any level.

    Returns:
      Whether one of `tries` puzzles has the level.
    """
    cells = len(puzzle)
    none, one, any_number = np.int64(-1), np.int64(1), np.int64(9)
    state = np.array([np.uint64(seed)])
    other = np.empty_like(puzzle)
    for _ in range(tries):
        puzzle[:] = 0
        _search(puzzle, units, none, none, any_number, one, state, solution)
        puzzle[:] = solution
        used = np.full(27, (1 << 9) - 1)
        # The cells filled[:left] have a clue.
        filled = np.arange(cells)
        left, failed = cells, 0
        while failed < 2:
            k = _next(state) % left
            if _clear(filled[k], puzzle, solution, used, units, state, other):
                left -= 1
                filled[k] = filled[left]
            else:
                failed += 1
        if technique < 0 or rate(puzzle, units) == technique:
            return True
    return False
