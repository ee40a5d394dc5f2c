#!/usr/bin/env python3
"""Golden vectors for tokenloss-core, computed with mpmath from the formulas alone.

Writes objectives.json beside this file. It calls nothing of ours: every loss is its textbook formula, every slope
is the numerical derivative of that formula (so a slip in a hand-derived gradient cannot hide), every row is a plain
softmax. At least 60 digits of working precision; inputs are binary floating point numbers, taken exactly.

    python3 core/golden/make.py          (needs mpmath; rewrites the file byte for byte)
"""

import json
import pathlib
import struct

from mpmath import exp, inf, log, mp, mpf, nstr

mp.dps = 60


def f32(x):
    """A parameter: the f32 nearest to x, exactly."""
    return mpf(struct.unpack("f", struct.pack("f", x))[0])


# --- formulas: loss as a function of p and e = 1 - p ------------------------------------------------------------


def nll(p, e):
    return -log(p)


def power(p, e, alpha):
    return -log(p) if alpha == 0 else (1 - p**alpha) / alpha


def unlikelihood(p, e, eps):
    return log(e + eps)


def focal(p, e, gamma):
    return -(e**gamma) * log(p)


def huber(p, e, delta):
    return e * e / 2 if e <= delta else delta * (e - delta / 2)


def mix(p, e, lam):
    return -lam * log(p) + (1 - lam) * e


def poly1(p, e, epsilon):
    return -log(p) + epsilon * e


def trsft(p, e, a):
    return -log(p) if p >= a else 1 - p / a - log(a)


def infosft_weight(p, e, ceiling):
    odds = log(p) - log(e)
    return p * max(mpf(0), 1 - odds / (log(ceiling) - log(1 - ceiling)))


OBJECTIVES = {
    "nll": (nll, [()]),
    "power": (power, [(0.0,), (0.01,), (0.3,), (0.5,), (1.0,), (2.0,), (10.0,), (16.0,), (-0.5,), (-1.0,)]),
    "unlikelihood": (unlikelihood, [(1e-6,), (1e-3,), (0.25,), (1.0,)]),
    "focal": (focal, [(0.0,), (0.5,), (1.0,), (2.0,), (5.0,), (16.0,)]),
    "huber": (huber, [(0.001,), (0.1,), (0.5,), (1.0,)]),
    "mix": (mix, [(0.0,), (0.1,), (0.5,), (0.9,), (1.0,)]),
    # Value and slope of a stop-gradient objective are two declarations; see evaluate().
    "dft": (None, [()]),
    "poly1": (poly1, [(-0.5,), (0.5,), (1.0,), (16.0,)]),
    "trsft": (trsft, [(0.001,), (0.1,), (0.5,), (1.0,)]),
    "infosft": (None, [(0.51,), (0.93,), (0.999,)]),
}

# From the most confident row of a margin of 80 to a row that is nearly hopeless; .75 and .25 are on both sides of
# huber's kinks, -0.69 is near p = 1/2, where the two forms of p change hands.
LOG_P = [-1.8e-35, -1e-30, -1e-18, -1e-9, -1e-4, -0.01, -0.05, -0.2876, -0.5, -0.69, -0.6932, -0.75, -1.0, -1.386,
         -2.0, -3.5, -7.0, -15.0, -30.0, -42.0]


def derivative(loss, log_p):
    """d loss / d log_p by a central difference with an error of h^2, 1e-120, of itself. The digits are for p^16 at
    log_p = -42, which is 1e-292 beside the 1 that it is taken from."""
    with mp.workdps(600):
        h = abs(log_p) * mpf(10) ** -60
        at = lambda x: loss(exp(x), -mp.expm1(x))
        return (at(log_p + h) - at(log_p - h)) / (2 * h)


def evaluate(name, values, log_p):
    """Loss and slope, both to 100 digits or better."""
    with mp.workdps(600):
        p, e = exp(log_p), -mp.expm1(log_p)
        if name == "dft":
            return -p * log_p, -p  # -sg(p) log p differentiates to -p
        if name == "infosft":
            weight = infosft_weight(p, e, *values)
            return -weight * log_p, -weight
        formula = OBJECTIVES[name][0]
        loss = formula(p, e, *values)
        return loss, derivative(lambda p, e: formula(p, e, *values), log_p)


def text(x):
    """25 significant digits, enough to name an f64 and then some."""
    return nstr(x, 25, min_fixed=0, max_fixed=0) if x != 0 else "0.0"


# --- rows -------------------------------------------------------------------------------------------------------

ROWS = [
    ("two classes, tied", [0.0, 0.0], 0),
    ("three classes", [2.0, 0.0, -1.0], 0),
    ("the target is not the maximum", [2.0, 0.0, -1.0], 2),
    ("large offset", [1000.0, 1002.5, 999.25, 1001.0], 1),
    ("a masked column", [1.5, -inf, 0.25, -0.75], 0),
    ("a constant row", [3.25] * 7, 4),
    ("margin 15: plain f32 softmax is 17 % off", [15.0, 0.0, -1.0, -2.0], 0),
    ("margin 17: plain f32 softmax gives 0", [17.0, 0.0, 0.0, 0.0], 0),
    ("margin 40", [40.0, 0.0, -3.0], 0),
    ("margin 80", [80.0, 0.0, -0.5, -40.0], 0),
    ("margin 80 against the target", [0.0, 80.0, 1.0], 0),
    ("sixteen classes", [0.5 * ((7 * j) % 16) - 3.25 for j in range(16)], 5),
]
ROW_OBJECTIVES = [("nll", ()), ("power", (1.0,)), ("power", (10.0,)), ("focal", (2.0,)), ("unlikelihood", (1e-3,))]


def row(name, logits, target):
    with mp.workdps(600):
        z = [mpf(x) for x in logits]
        mass = sum(exp(x) for x in z)
        p = [exp(x) / mass for x in z]
        log_p, lse = log(p[target]), log(mass)
        out = {
            "name": name,
            "logits": ["-inf" if x == -inf else repr(x) for x in logits],
            "target": target,
            "log_p": text(log_p),
            "one_minus_p": text(sum(q for j, q in enumerate(p) if j != target)),
            "lse": text(lse),
            "entropy": text(-sum(q * log(q) for q in p if q != 0)),
            "gradients": [],
        }
        for objective, parameters in ROW_OBJECTIVES:
            _, slope = evaluate(objective, [f32(x) for x in parameters], log_p)
            others = lambda j: sum(q for k, q in enumerate(p) if k != j)
            out["gradients"].append({
                "objective": objective,
                "parameters": list(parameters),
                "dlogits": [text(slope * (others(j) if j == target else -p[j])) for j in range(len(p))],
            })
        return out


def main():
    tokens = []
    for name, (_, settings) in OBJECTIVES.items():
        for parameters in settings:
            values = [f32(x) for x in parameters]
            points = []
            for log_p in LOG_P:
                loss, slope = evaluate(name, values, mpf(log_p))
                points.append([repr(log_p), text(loss), text(slope)])
            tokens.append({"objective": name, "parameters": list(parameters), "points": points})
    about = {
        "what": "Values and slopes of token objectives, and whole rows with their logit gradients.",
        "how": "core/golden/make.py, mpmath with at least 60 digits; inputs are taken as exact f64, parameters as "
               "exact f32; slopes are central differences in 600 digits, not derived formulas.",
        "units": "natural logarithms (nats); slope = d loss / d log_p; dlogits = d loss / d logits, weight 1.",
        "numbers": "decimal text of 25 digits, so that reading them does not depend on a JSON parser's rounding",
        "points": "[log_p, loss, slope]",
    }
    rows = [row(*r) for r in ROWS]
    path = pathlib.Path(__file__).with_name("objectives.json")
    lines = lambda entries: ",\n  ".join(json.dumps(entry) for entry in entries)
    path.write_text(
        f'{{\n "about": {json.dumps(about, indent=2)},\n'
        f' "tokens": [\n  {lines(tokens)}\n ],\n "rows": [\n  {lines(rows)}\n ]\n}}\n'
    )
    print(f"{path}: {sum(len(t['points']) for t in tokens)} points, {len(rows)} rows")


if __name__ == "__main__":
    main()
