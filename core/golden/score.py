#!/usr/bin/env python3
"""Golden vectors for the objectives of scores, computed with mpmath from the textbook formulas alone.

Writes score.json beside this file. It calls nothing of ours: every loss is its formula, every slope the numerical
derivative of that formula in 500 digits. Inputs are binary floating point numbers, taken exactly; parameters the f32
nearest to what is written.

    python3 core/golden/score.py          (needs mpmath; rewrites the file byte for byte)
"""

import json
import pathlib
import struct

from mpmath import erf, exp, log, mp, mpf, nstr, sqrt

mp.dps = 500


def f32(x):
    return mpf(struct.unpack("f", struct.pack("f", x))[0])


def log_sigmoid(x):
    return -log(1 + exp(-x))


# --- formulas: of the parameters, the scores and the targets -----------------------------------------------------


def squared(p, s, t):
    return (s[0] - t[0]) ** 2


def huber(p, s, t):
    e = abs(s[0] - t[0])
    return e**2 / 2 if e <= p[0] else p[0] * (e - p[0] / 2)


def pseudo_huber(p, s, t):
    return sqrt((s[0] - t[0]) ** 2 + p[0] ** 2) - p[0]


def pinball(p, s, t):
    return max(p[0] * (t[0] - s[0]), (1 - p[0]) * (s[0] - t[0]))


def expectile(p, s, t):
    return (p[0] if s[0] < t[0] else 1 - p[0]) * (s[0] - t[0]) ** 2


def binary_cross_entropy(p, s, t):
    return -t[0] * log_sigmoid(s[0]) - (1 - t[0]) * log_sigmoid(-s[0])


def reject(p, s, t):
    alpha, beta, cost = p
    return exp(alpha * (s[0] - t[0]) / 2) + cost * exp(-beta * s[0])


def bradley_terry(p, s, t):
    smoothing, centre = p
    d = s[0] - s[1] - t[0]
    return -(1 - smoothing) * log_sigmoid(d) - smoothing * log_sigmoid(-d) + centre * (s[0] + s[1]) ** 2


def fidelity(p, s, t):
    x = (s[0] - s[2]) / sqrt(s[1] + s[3])
    # Both tails by the same series, so that the smaller one has its digits.
    a, b = (1 + erf(x / sqrt(2))) / 2, (1 - erf(x / sqrt(2))) / 2
    return 1 - sqrt(a * t[0]) - sqrt(b * (1 - t[0]))


ERRORS = [([s], [t]) for s, t in [
    (0.5, 0.25), (-3.0, 4.5), (1e-6, 0.0), (1000.0, -1000.0), (1e-20, -1e-20), (2.0, 2.0000001), (-7.25, -7.5)]]
LOGITS = [([s], [t]) for s in (-60.0, -7.5, -1e-3, 0.5, 36.0) for t in (0.0, 1.0, 0.1, 0.5, -0.75, 2.5)]
CORRECT = [([s], [t]) for s in (-2.0, -0.1, 0.0, 0.3, 1.0, 5.0) for t in (-1.0, 1.0)]
PAIRS = [([c, r], [m]) for c, r, m in [
    (0.0, 0.0, 0.0), (1.5, -0.5, 0.0), (-2.0, 3.0, 1.0), (40.0, 0.0, 0.0), (0.0, 75.0, 0.5), (3.0, 1.0, 2.0), (0.3, -0.2, -1.0)]]
LEVELS = [([a, va, b, vb], [q]) for a, va, b, vb in [
    (3.0, 0.5, 2.0, 0.25), (1.0, 1.0, 4.0, 2.0), (5.0, 0.01, 1.0, 0.01), (0.0, 0.125, 8.0, 0.125), (2.0, 1.0, 2.0, 3.0)]
    for q in (0.0, 0.125, 0.5, 0.96875, 1.0)]

OBJECTIVES = {
    "squared": (squared, [()], ERRORS),
    "huber": (huber, [(0.001,), (1.0,), (50.0,)], ERRORS),
    "pseudo_huber": (pseudo_huber, [(0.0,), (0.001,), (0.03,), (1.0,), (50.0,)], ERRORS),
    "pinball": (pinball, [(0.0,), (0.1,), (0.5,), (0.95,), (1.0,)], ERRORS),
    "expectile": (expectile, [(0.0,), (0.1,), (0.5,), (0.95,), (1.0,)], ERRORS),
    "binary_cross_entropy": (binary_cross_entropy, [()], LOGITS),
    "reject": (reject, [(2.0, 9.71, 0.05), (1.0, 1.0, 0.3), (0.01, 0.5, 1.0)], CORRECT),
    "bradley_terry": (bradley_terry, [(0.0, 0.0), (0.1, 0.0), (0.5, 0.01), (0.0, 0.01)], PAIRS),
    "fidelity": (fidelity, [()], LEVELS),
}


def slopes(formula, p, scores, targets):
    out = []
    for k in range(len(scores)):
        h = mpf(10) ** -50
        at = lambda x: formula(p, scores[:k] + [x] + scores[k + 1:], targets)
    # x
        d = (8 * (at(scores[k] + h) - at(scores[k] - h)) - (at(scores[k] + 2 * h) - at(scores[k] - 2 * h))) / (12 * h)
        out.append(d)
    return out


def text(x):
    """25 significant digits; what is left of a difference that vanishes is 0."""
    return "0.0" if abs(x) < mpf(10) ** -400 else nstr(x, 25, min_fixed=0, max_fixed=0)


def mixture(logits, log_densities):
    z, l = [mpf(x) for x in logits], [mpf(x) for x in log_densities]
    share = [exp(a) / sum(exp(b) for b in z) for a in z]
    joint = [s * exp(d) for s, d in zip(share, l)]
    responsibility = [j / sum(joint) for j in joint]
    return {
        "logits": logits,
        "log_densities": log_densities,
        "loss": text(-log(sum(joint))),
        "dlogits": [text(s - r) for s, r in zip(share, responsibility)],
        "dlog_densities": [text(-r) for r in responsibility],
    }


def vector(c, prediction, target):
    errors = [mpf(a) - mpf(b) for a, b in zip(prediction, target)]
    root = sqrt(sum(e**2 for e in errors) + f32(c) ** 2)
    return {
        "c": c,
        "prediction": prediction,
        "target": target,
        "loss": text(root - f32(c)),
        "dprediction": [text(e / root) for e in errors],
    }


def main():
    entries = []
    for name, (formula, settings, samples) in OBJECTIVES.items():
        for parameters in settings:
            p = [f32(x) for x in parameters]
            points = []
            for scores, targets in samples:
                s, t = [mpf(x) for x in scores], [mpf(x) for x in targets]
                points.append({
                    "scores": scores,
                    "targets": targets,
                    "loss": text(formula(p, s, t)),
                    "slopes": [text(x) for x in slopes(formula, p, s, t)],
                })
            entries.append({"objective": name, "parameters": list(parameters), "points": points})
    about = {
        "what": "Losses and slopes of the objectives of scores, mixtures and vectors.",
        "how": "core/golden/score.py, mpmath with 500 digits; slopes are differences of the formulas.",
        "numbers": "inputs are exact f64; results are decimal text of 25 digits",
    }
    mixtures = [
        mixture([0.0, 1.0, -2.0], [-3.0, -1.0, 0.5]),
        mixture([30.0, 0.0], [0.0, -2.0]),
        mixture([5.0, -40.0, 3.0], [-800.0, -700.0, -790.0]),
    ]
    vectors = [
        vector(0.00054, [0.5, -1.0, 2.0], [0.25, -1.5, 2.0]),
        vector(0.0, [3.0, -4.0], [0.0, 0.0]),
        vector(10.0, [1e-9, 2e-9], [0.0, 1e-9]),
    ]
    lines = lambda entries: ",\n  ".join(json.dumps(entry) for entry in entries)
    path = pathlib.Path(__file__).with_name("score.json")
    path.write_text(
        f'{{\n "about": {json.dumps(about, indent=2)},\n "scores": [\n  {lines(entries)}\n ],\n'
        f' "mixtures": [\n  {lines(mixtures)}\n ],\n "vectors": [\n  {lines(vectors)}\n ]\n}}\n'
    )
    print(f"{path}: {sum(len(e['points']) for e in entries)} points")


if __name__ == "__main__":
    main()
