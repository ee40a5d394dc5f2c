#!/usr/bin/env python3
"""Golden vectors for the objectives of listed columns, computed with mpmath from the textbook formulas alone.

Writes columns.json beside this file. A row is a plain softmax over the listed logits and the rest's log-sum-exp; every
derivative is a central difference of the formula in 300 digits.

    python3 core/golden/columns.py          (needs mpmath; rewrites the file byte for byte)
"""

import json
import pathlib
import struct

from mpmath import exp, inf, log, mp, mpf, nstr

mp.dps = 300


def f32(x):
    return mpf(struct.unpack("f", struct.pack("f", x))[0])


def softmax(z):
    top = max(z)
    shares = [exp(x - top) for x in z]
    mass = sum(shares)
    return [s / mass for s in shares]


# --- formulas: of the classes' logits z (the rest last), the side inputs y (the row's last), and z as it was, for what is
# --- held ------------------------------------------------------------------------------------------------------------


def xlogx(a, b):
    return mpf(0) if a == 0 else a * log(a / b)


def topk_kl(z, y, _):
    return sum(xlogx(q, p) for p, q in zip(softmax(z), softmax(y)))


def topk_reverse_kl(z, y, _):
    return sum(xlogx(p, q) for p, q in zip(softmax(z), softmax(y)))


def soft_labels(z, y, _):
    return -sum(c * log(p) for p, c in zip(softmax(z), y) if c != 0)


def subset_mass(z, y, _):
    return -log(sum(softmax(z)[:-1]))


def purified(z, y, held):
    weights = softmax(held[:-1])
    return -sum(w * log(p) for w, p in zip(weights, softmax(z)) if w != 0)


def candidate_unlikelihood(z, y, _):
    p = softmax(z)
    return -sum(log(sum(p[:i] + p[i + 1:])) for i in range(len(p) - 1))


def subset_softmax(z, y, _):
    return -log(softmax(z[:-1])[0])


def margin(z, y, _, by):
    hinges = [max(mpf(0), by - (z[0] - x)) for x in z[1:-1]]
    return sum(hinges) / len(hinges)


def expected_value(z, y, _):
    score = sum(w * v for w, v in zip(softmax(z[:-1]), y))
    return (score - y[-1]) ** 2 / 2


def eaft(z, alpha, divisor):
    entropy = -sum(w * log(w) for w in softmax(z) if w != 0)
    return (entropy / divisor) ** alpha


# --- inputs -----------------------------------------------------------------------------------------------------------

ROWS = [
    [0.5, -1.25, 0.75],
    [2.0, 0.0, -1.0, 0.5],
    [1000.0, 1002.5, 999.25, 1001.0, 998.0],
    [40.0, 0.0, -3.0, 1.0],
    [0.0, 40.0, 1.0, -2.0],
    [0.0, 1.0, 2.0, 60.0],
    [3.25, 3.25, 3.25, 3.25],
    [1.5, -inf, 0.25, -0.75],
    [1.5, 0.75, 0.25, -inf],
]
TEACHERS = [[0.25, -0.5, 1.5], [1.0, 0.0, -1.0, 0.25], [-1.0, 0.5, 0.0, 2.0, -3.0], [41.0, 0.5, -3.0, 1.0],
            [20.0, 1.0, 1.0, 0.0], [0.0, 1.0, 2.0, 61.0], [0.0, 1.0, 2.0, 3.0], [1.0, -inf, 0.0, 0.5],
            [0.5, 0.25, 1.0, -inf]]
COEFFICIENTS = [[0.5, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0], [0.25, 0.5, 1.5, 0.25, 0.5], [1.0, 0.0, 0.0, 0.0],
                [0.75, 0.25, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.5, -0.25, 0.25, 1.0], [0.5, 0.0, 0.5, 0.25],
                [0.5, 0.25, 0.25, 0.0]]
VALUES = [[5.0, 4.0, 3.5], [1.0, 2.0, 3.0, 1.5], [5.0, 4.0, 3.0, 2.0, 3.25], [1.0, 2.0, 3.0, 1.5],
          [1.0, 2.0, 3.0, 1.5], [0.0, 0.5, 1.0, 0.25], [-1.0, 0.0, 1.0, 0.5], [1.0, 2.0, 3.0, 1.5],
          [1.0, 2.0, 3.0, 1.5]]
OBJECTIVES = {
    "topk forward_kl": (topk_kl, TEACHERS, [()]),
    "topk reverse_kl": (topk_reverse_kl, TEACHERS, [()]),
    "soft_labels": (soft_labels, COEFFICIENTS, [()]),
    "subset_mass": (subset_mass, None, [()]),
    "purified": (purified, None, [()]),
    "candidate_unlikelihood": (candidate_unlikelihood, None, [()]),
    "subset_softmax": (subset_softmax, None, [()]),
    "margin": (margin, None, [(0.3,), (1.0,), (50.0,)]),
    "expected_value": (expected_value, VALUES, [()]),
}
WEIGHTS = {"eaft": (eaft, [(1.0, 3.0), (0.5, 3.0), (2.0, 2.9957323), (0.0, 1.0)])}


def text(x):
    return nstr(x, 25, min_fixed=0, max_fixed=0) if x != 0 else "0.0"


def number(x):
    return "-inf" if x == -inf else repr(x)


def derivative(loss, z, at):
    """Central difference with an error of h^2, 1e-120, below which it is 0; -infinity stays."""
    if z[at] == -inf:
        return None
    h = mpf(10) ** -60
    moved = lambda by: loss(z[:at] + [z[at] + by] + z[at + 1:])
    d = (moved(h) - moved(-h)) / (2 * h)
    return d if abs(d) > mpf(10) ** -100 else mpf(0)


def main():
    entries, weights = [], []
    for name, (formula, sides, settings) in OBJECTIVES.items():
        for parameters in settings:
            values = [f32(x) for x in parameters]
            for index, row in enumerate(ROWS):
                z = [mpf(x) for x in row]
                y = [mpf(x) for x in sides[index]] if sides else None
                loss = lambda live: formula(live, y, z, *values)
                d = [derivative(loss, z, at) for at in range(len(z))]
                entries.append({
                    "objective": name,
                    "parameters": list(parameters),
                    "classes": [number(x) for x in row],
                    "sides": [number(x) for x in sides[index]] if sides else [],
                    "loss": text(loss(z)),
                    "d": [None if x is None else text(x) for x in d],
                })
    for name, (formula, settings) in WEIGHTS.items():
        for parameters in settings:
            for row in ROWS:
                value = formula([mpf(x) for x in row], *[f32(x) for x in parameters])
                weights.append({
                    "objective": name,
                    "parameters": list(parameters),
                    "logits": [number(x) for x in row],
                    "weight": text(value),
                })
    about = {
        "what": "Losses of rows with listed columns and their derivatives; weights of rows.",
        "how": "core/golden/columns.py, mpmath with 300 digits; derivatives are central differences.",
        "classes": "the listed logits, and the rest's log-sum-exp last; sides and d likewise; null where masked",
        "numbers": "decimal text of 25 digits, so that reading them does not depend on a JSON parser's rounding",
    }
    path = pathlib.Path(__file__).with_name("columns.json")
    lines = lambda all: ",\n  ".join(json.dumps(entry) for entry in all)
    path.write_text(
        f'{{\n "about": {json.dumps(about, indent=2)},\n'
        f' "columns": [\n  {lines(entries)}\n ],\n "column_weights": [\n  {lines(weights)}\n ]\n}}\n'
    )
    print(f"{path}: {len(entries)} rows, {len(weights)} weights")


if __name__ == "__main__":
    main()
