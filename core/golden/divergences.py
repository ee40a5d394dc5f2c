#!/usr/bin/env python3
"""Golden vectors of divergences, computed with mpmath from their textbook formulas alone.

Writes divergences.json beside this file. It calls nothing of ours: every row is a plain softmax at its temperature, every
divergence its definition as a sum over classes, every gradient a numerical derivative of that by the student's logits.

    python3 core/golden/divergences.py          (needs mpmath; rewrites the file byte for byte)
"""

import json
import pathlib
import struct

from mpmath import exp, inf, log, mp, mpf, nstr

mp.dps = 400


def f32(x):
    """A parameter: the f32 nearest to x, exactly."""
    return mpf(struct.unpack("f", struct.pack("f", x))[0])


# --- formulas: the student's probabilities p, the teacher's q ------------------------------------------------------------


def times_log(x, ratio):
    return mpf(0) if x == 0 else x * log(ratio)


def kl(a, b):
    return sum(times_log(x, x / y) if x != 0 else mpf(0) for x, y in zip(a, b))


def mixture(weight, a, b):
    return [weight * x + (1 - weight) * y for x, y in zip(a, b)]


def forward_kl(p, q):
    return kl(q, p)


def reverse_kl(p, q):
    return kl(p, q)


def mixed_kl(p, q, mix):
    return mix * kl(q, p) + (1 - mix) * kl(p, q)


def jensen_shannon(p, q, beta):
    m = mixture(beta, q, p)
    return beta * kl(q, m) + (1 - beta) * kl(p, m)


def skew_kl(p, q, alpha):
    return kl(q, mixture(alpha, q, p))


def skew_reverse_kl(p, q, alpha):
    return kl(p, mixture(alpha, p, q))


def alpha(p, q, alpha):
    return (1 - sum(x**alpha * y ** (1 - alpha) for x, y in zip(p, q))) / (alpha * (1 - alpha))


def total_variation(p, q):
    return sum(abs(x - y) for x, y in zip(p, q)) / 2


DIVERGENCES = {
    "forward_kl": (forward_kl, [()]),
    "reverse_kl": (reverse_kl, [()]),
    "mixed_kl": (mixed_kl, [(0.5,), (0.1,)]),
    "jensen_shannon": (jensen_shannon, [(0.5,), (0.1,), (0.9,), (0.01,), (0.99,)]),
    "skew_kl": (skew_kl, [(0.1,), (0.001,), (0.9,)]),
    "skew_reverse_kl": (skew_reverse_kl, [(0.1,), (0.001,), (0.9,)]),
    "alpha": (alpha, [(0.5,), (0.01,), (0.99,)]),
    "total_variation": (total_variation, [()]),
}

# Masks that make a divergence infinite are not here.
ALWAYS = [
    ("two classes", [0.5, 0.0], [-1.0, 0.25], 1.0),
    ("three classes, tempered", [2.0, 0.0, -1.0], [0.5, 1.5, -2.0], 2.0),
    ("offsets", [1000.0, 1002.5, 999.25, 1001.0], [-500.0, -499.0, -503.5, -501.25], 1.0),
    ("nearly the same", [1.0, -0.5, 0.25, 3.0], [1.0 + 2.0**-20, -0.5, 0.25 - 2.0**-21, 3.0 - 2.0**-22], 1.0),
    ("both confident, of the same class", [20.0, 0.0, -1.0, 2.0], [25.0, 1.0, -3.0, 2.0], 1.0),
    ("confident of two classes", [30.0, 0.0, -1.0], [0.0, 40.0, 2.0], 1.0),
    ("confident and flat", [0.25, 0.0, -0.25, 0.5], [0.0, 60.0, -20.0, 10.0], 4.0),
    ("both mask a class", [1.0, -inf, 0.5, -2.0], [0.0, -inf, 2.0, -0.5], 1.0),
    ("sixteen classes", [0.5 * ((7 * j) % 16) - 3.25 for j in range(16)],
     [0.75 * ((5 * j) % 16) - 4.5 for j in range(16)], 0.5),
]
TEACHER_MASKS = ("the teacher masks a class", [1.0, 0.25, 0.5, -2.0], [0.0, -inf, 2.0, -0.5], 1.0)
STUDENT_MASKS = ("the student masks a class", [1.0, -inf, 0.5, -2.0], [0.0, 1.0, 2.0, -0.5], 1.0)
FINITE = {
    "forward_kl": [TEACHER_MASKS],
    "reverse_kl": [STUDENT_MASKS],
    "mixed_kl": [],
}


def softmax(z):
    shares = [mpf(0) if x == -inf else exp(x) for x in z]
    mass = sum(shares)
    return [share / mass for share in shares]


def of_logits(formula, z, u, temperature, values):
    tempered = lambda row: softmax([x if x == -inf else x / temperature for x in row])
    return formula(tempered(z), tempered(u), *values)


def case(formula, values, name, z, u, temperature):
    z, u, temperature = [mpf(x) for x in z], [mpf(x) for x in u], mpf(temperature)
    h = mpf(10) ** -120

    def derivative(j):
        if z[j] == -inf:
            return mpf(0)
        at = lambda step: of_logits(formula, z[:j] + [z[j] + step] + z[j + 1 :], u, temperature, values)
        return (at(h) - at(-h)) / (2 * h)

    text = lambda x: nstr(x, 25, min_fixed=0, max_fixed=0) if x != 0 else "0.0"
    row = lambda x: ["-inf" if y == -inf else repr(float(y)) for y in x]
    return {
        "name": name,
        "temperature": float(temperature),
        "logits": row(z),
        "teacher": row(u),
        "value": text(of_logits(formula, z, u, temperature, values)),
        "dlogits": [text(derivative(j)) for j in range(len(z))],
    }


def main():
    entries = []
    for name, (formula, settings) in DIVERGENCES.items():
        for parameters in settings:
            values = [f32(x) for x in parameters]
            rows = ALWAYS + FINITE.get(name, [TEACHER_MASKS, STUDENT_MASKS])
            cases = [case(formula, values, *row) for row in rows]
            entries.append({"divergence": name, "parameters": list(parameters), "cases": cases})
    about = {
        "what": "Divergences of two rows, with their gradients by the student's logits.",
        "how": "core/golden/divergences.py, mpmath with 400 digits; logits and temperatures are taken as exact f64, "
               "parameters as exact f32; gradients are central differences, not derived formulas.",
        "units": "natural logarithms (nats); no factor of the temperature but its own.",
        "numbers": "decimal text of 25 digits, so that reading them does not depend on a JSON parser's rounding",
    }
    path = pathlib.Path(__file__).with_name("divergences.json")
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    path.write_text(f'{{\n "about": {json.dumps(about, indent=2)},\n "divergences": [\n  {lines}\n ]\n}}\n')
    print(f"{path}: {sum(len(e['cases']) for e in entries)} rows")


if __name__ == "__main__":
    main()
