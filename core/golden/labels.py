#!/usr/bin/env python3
"""Golden vectors of label objectives, computed with mpmath from their textbook formulas alone.

Writes labels.json beside this file. It calls nothing of ours: every probability is a plain softmax or a plain logistic function,
every gradient a numerical derivative by the logits, with what is held kept at its value.

    python3 core/golden/labels.py          (needs mpmath; rewrites the file byte for byte)
"""

import json
import pathlib
import struct

from mpmath import exp, inf, log, mp, mpf, nstr

mp.dps = 900


def f32(x):
    """A parameter: the f32 nearest to x, exactly."""
    return mpf(struct.unpack("f", struct.pack("f", x))[0])


def softmax(z):
    top = max(z)
    shares = [mpf(0) if x == -inf else exp(x - top) for x in z]
    return [share / sum(shares) for share in shares]


def logistic(z):
    return [mpf(0) if x == -inf else 1 / (1 + exp(-x)) for x in z]


def times_log(weight, x):
    return mpf(0) if weight == 0 else weight * log(x)


def nll(p, t):
    return -times_log(t, p) - times_log(1 - t, 1 - p)


# --- formulas: one class's probability p, what it was when factors were held, its label t ---------------------------------


def soft_targets(p, held, t):
    return -times_log(t, p)


def soft_power(p, held, t, alpha):
    return t * (1 - p**alpha) / alpha


def brier(p, held, t):
    return (p - t) ** 2


def expected_cost(p, held, t):
    return t * p


def binary_nll(p, held, t, positive):
    return -positive * times_log(t, p) - times_log(1 - t, 1 - p)


def focal(p, weight, gamma):
    return -times_log(weight * (1 - p) ** gamma, p)


def binary_focal(p, held, t, alpha, gamma):
    return alpha * focal(p, t, gamma) + (1 - alpha) * focal(1 - p, 1 - t, gamma)


def asymmetric_focal(p, held, t, gamma_pos, gamma_neg, margin):
    left, held_left = max(p - margin, mpf(0)), max(held - margin, mpf(0))
    damp = mpf(0) if held_left == 0 else held_left**gamma_neg
    return -times_log(t * (1 - held) ** gamma_pos, p) - times_log((1 - t) * damp, 1 - left)


def quality_focal(p, held, t, alpha, gamma):
    return (alpha if t > 0 else 1 - alpha) * abs(p - t) ** gamma * nll(p, t)


def varifocal(p, held, t, alpha, gamma):
    return t * nll(p, t) if t > 0 else alpha * focal(1 - p, mpf(1), gamma)


OBJECTIVES = {
    "soft_targets": (softmax, soft_targets, [()], False),
    "soft_power": (softmax, soft_power, [(1.0,), (0.001,), (0.5,), (16.0,)], False),
    "brier": (softmax, brier, [()], False),
    "expected_cost": (softmax, expected_cost, [()], False),
    "binary_nll": (logistic, binary_nll, [(1.0,), (0.0,), (7.5,)], False),
    "binary_focal": (logistic, binary_focal, [(0.25, 2.0), (0.5, 0.0), (0.0, 0.5), (1.0, 16.0)], True),
    "asymmetric_focal": (
        logistic,
        asymmetric_focal,
        [(0.0, 4.0, 0.05), (1.0, 4.0, 0.0), (0.0, 0.0, 0.0), (2.0, 0.5, 0.5), (0.0, 0.0, 0.3)],
        True,
    ),
    "quality_focal": (logistic, quality_focal, [(0.25, 2.0), (0.5, 1.0), (0.9, 1.5), (0.0, 16.0)], True),
    "varifocal": (logistic, varifocal, [(0.75, 2.0), (1.0, 0.0), (0.0, 16.0)], True),
}

# name, logits, labels, weights of classes; labels outside of 0 to 1 are not for all.
CASES = [
    ("one hot", [0.5, -1.0, 2.0], [0.0, 0.0, 1.0], None),
    ("confident and right", [25.0, 1.0, -3.0, 2.0], [1.0, 0.0, 0.0, 0.0], None),
    ("confident and wrong", [25.0, 1.0, -3.0, 2.0], [0.0, 0.0, 1.0, 0.0], None),
    ("soft", [0.25, 1.5, -0.75, 0.0], [0.125, 0.5, 0.25, 0.125], None),
    ("weighted", [0.25, 1.5, -0.75, 0.0], [0.125, 0.5, 0.25, 0.125], [0.5, 2.0, 0.0, 1.0]),
    ("several on", [40.0, -40.0, 3.0, -2.0, 0.75], [1.0, 0.0, 1.0, 0.0, 1.0], None),
    ("several on and all wrong", [40.0, -40.0, 3.0, -2.0, 0.75], [0.0, 1.0, 0.0, 1.0, 0.0], None),
    ("none on", [-1.0, 0.5, -2.5], [0.0, 0.0, 0.0], None),
    ("a mask", [1.0, -inf, 0.5], [0.75, 0.0, 0.25], None),
]
ANY = [
    ("any coefficients", [0.25, 1.5, -0.75, 0.0], [-0.5, 3.0, 0.25, -2.0], None),
    ("costs", [10.0, 1.5, -0.75, 8.0], [5.0, 7.5, -100.0, 5.25], [1.0, 1.0, 0.25, 3.0]),
]


def text(x):
    if x == -inf:
        return "-inf"
    return nstr(x, 25)


def total(formula, link, z, frozen, labels, weights, parameters):
    p, held = link(z), link(frozen)
    return sum(w * formula(a, b, t, *parameters) for w, a, b, t in zip(weights, p, held, labels))


def case(formula, link, parameters, name, z, labels, weights):
    z = [x if x == -inf else mpf(x) for x in z]
    t = [mpf(x) for x in labels]
    w = [mpf(x) for x in weights] if weights else [mpf(1)] * len(z)
    step = mpf(10) ** -120
    dlogits = []
    for j in range(len(z)):
        if z[j] == -inf:
            dlogits.append(mpf(0))
            continue
        moved = [z[:j] + [z[j] + sign * step] + z[j + 1 :] for sign in (1, -1)]
        up, down = (total(formula, link, m, z, t, w, parameters) for m in moved)
        dlogits.append((up - down) / (2 * step))
    return {
        "name": name,
        "logits": [text(x) for x in z],
        "labels": [text(x) for x in t],
        "weights": [text(x) for x in w] if weights else None,
        "value": text(total(formula, link, z, z, t, w, parameters)),
        "dlogits": [text(d) for d in dlogits],
    }


def main():
    entries = []
    for name, (link, formula, settings, bounded) in OBJECTIVES.items():
        for setting in settings:
            parameters = [f32(x) for x in setting]
            cases = [case(formula, link, parameters, *c) for c in (CASES if bounded else CASES + ANY)]
            entries.append({"objective": name, "parameters": list(setting), "cases": cases})
    about = {
        "what": "Sums over the classes of a row of functions of probability and label, with their gradients by the logits.",
        "how": "core/golden/labels.py, mpmath with 900 digits; logits, labels and weights are taken as exact f64, parameters "
               "as exact f32; gradients are central differences, not derived formulas.",
        "units": "natural logarithms (nats)",
        "numbers": "decimal text of 25 digits, so that reading them does not depend on a JSON parser's rounding",
    }
    path = pathlib.Path(__file__).with_name("labels.json")
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    path.write_text(f'{{\n "about": {json.dumps(about, indent=2)},\n "labels": [\n  {lines}\n ]\n}}\n')
    print(f"{path}: {sum(len(e['cases']) for e in entries)} rows")


if __name__ == "__main__":
    main()
