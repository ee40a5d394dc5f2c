#!/usr/bin/env python3
"""Golden vectors of the row objectives, computed with mpmath from the formulas alone.

Writes rows.json beside this file. Every loss is its textbook formula over the whole softmax; every gradient is the
numerical derivative of that formula by each logit, with the quantities that the method holds computed once at the row.

    python3 core/golden/rows.py          (needs mpmath; rewrites the file byte for byte)
"""

import json
import pathlib
import struct

from mpmath import exp, inf, log, mp, mpf, nstr

mp.dps = 200


def f32(x):
    """A parameter: the f32 nearest to x, exactly."""
    return mpf(struct.unpack("f", struct.pack("f", x))[0])


class Row:
    def __init__(self, z, target):
        self.z = [x for x in z if x != -inf]
        self.logit = z[target]
        mass = sum(exp(x) for x in self.z)
        self.lse = log(mass)
        self.p = [exp(x) / mass for x in self.z]
        self.target = exp(self.logit) / mass
        self.entropy = -sum(q * log(q) for q in self.p)


# Each is (what is held, computed at the row itself; the loss of a row given what is held).


def nothing(row, *parameters):
    return None


def label_smoothing(row, held, epsilon):
    return -(1 - epsilon) * log(row.target) - epsilon * sum(log(q) for q in row.p) / len(row.p)


def z_loss(row, held, lam):
    return lam * row.lse**2


def entropy(row, held, lam):
    return lam * row.entropy


def reliable_entropy(row, held, share):
    return row.entropy if row.entropy < share * log(len(row.p)) else mpf(0)


def logit_l2(row, held, lam):
    return lam / 2 * sum(x * x for x in row.z)


def target_l2(row, held, lam, gamma):
    return lam * (row.logit - gamma) ** 2


def power(row, alpha, *parameters):
    return (1 - row.target**alpha) / alpha


def concentration(row):
    return sum(q * q for q in row.p)


def cayley_exponent(row, mean_p):
    a0, d = mean_p / 2, 1 - row.target
    return min(max(a0 + (1 - a0) * (1 - d) / (1 + d), f32(0.001)), mpf(1))


def idft_exponent(row, beta, lam):
    phi = log(row.target) + row.entropy
    return 1 + lam * (min(max(exp(-phi / beta), f32(0.1)), mpf(2)) - 1)


def idft(row, gamma, *parameters):
    return -(row.target**gamma) * log(row.target)


def share_of_entropy(row, alpha):
    return (row.entropy / log(len(row.p))) ** alpha


def gated(row, weight, *parameters):
    return -weight * log(row.target)


OBJECTIVES = {
    "label_smoothing": (nothing, label_smoothing, [(0.0,), (0.1,), (1.0,)]),
    "z_loss": (nothing, z_loss, [(1e-4,), (2.0,)]),
    "entropy": (nothing, entropy, [(0.01,), (-1.0,)]),
    "reliable_entropy": (nothing, reliable_entropy, [(0.4,), (1.0,)]),
    "logit_l2": (nothing, logit_l2, [(1e-4,), (1.0,)]),
    "target_l2": (nothing, target_l2, [(1e-4, 0.0), (1.0, -2.5)]),
    "deft": (concentration, power, [()]),
    "cayley": (cayley_exponent, power, [(0.0,), (0.5,), (1.0,)]),
    "idft": (idft_exponent, idft, [(1.0, 1.0), (2.0, 0.5), (1.0, 0.0)]),
    "entropy_gated": (share_of_entropy, gated, [(0.5,), (1.0,), (3.0,)]),
}

ROWS = [
    ([2.0, 0.0, -1.0], 0),
    ([2.0, 0.0, -1.0], 2),
    ([1000.0, 1002.5, 999.25, 1001.0], 1),
    ([1.5, -inf, 0.25, -0.75], 0),
    ([15.0, 0.0, -1.0, -2.0], 0),
    ([40.0, 0.0, -3.0], 0),
    ([0.0, 30.0, 1.0], 0),
    ([0.5 * ((7 * j) % 16) - 3.25 for j in range(16)], 5),
]


def text(x):
    """25 significant digits, enough to name an f64 and then some."""
    return nstr(x, 25, min_fixed=0, max_fixed=0) if x != 0 else "0.0"


def entry(name, parameters, logits, target):
    hold, loss, _ = OBJECTIVES[name]
    values = [f32(x) for x in parameters]
    z = [mpf(x) for x in logits]
    row = Row(z, target)
    held = hold(row, *values)
    h = mpf(10) ** -60

    def at(j, step):
        moved = list(z)
        moved[j] += step
        return loss(Row(moved, target), held, *values)

    gradient = [mpf(0) if z[j] == -inf else (at(j, h) - at(j, -h)) / (2 * h) for j in range(len(z))]
    return {
        "objective": name,
        "parameters": list(parameters),
        "logits": ["-inf" if x == -inf else repr(x) for x in logits],
        "target": target,
        "loss": text(loss(row, held, *values)),
        "dlogits": [text(d) for d in gradient],
    }


def main():
    entries = [
        entry(name, parameters, logits, target)
        for name, (_, _, settings) in OBJECTIVES.items()
        for parameters in settings
        for logits, target in ROWS
    ]
    about = {
        "what": "Losses of row objectives and their gradients by the logits.",
        "how": "core/golden/rows.py, mpmath with 200 digits; inputs are exact f64, parameters exact f32; gradients are "
               "central differences with a step of 1e-60, not derived formulas.",
        "numbers": "decimal text of 25 digits",
    }
    path = pathlib.Path(__file__).with_name("rows.json")
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    path.write_text(f'{{\n "about": {json.dumps(about, indent=2)},\n "rows": [\n  {lines}\n ]\n}}\n')
    print(f"{path}: {len(entries)} entries")


if __name__ == "__main__":
    main()
