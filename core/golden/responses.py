#!/usr/bin/env python3
"""Golden vectors for objectives of sequences, pairs and groups, computed with mpmath from the formulas alone.

Writes responses.json beside this file. It calls nothing of ours: every loss is its textbook formula, or, where the authors'
code has another, that code's; every slope is the numerical derivative of that formula by a sequence's log-probability.

    python3 core/golden/responses.py          (needs mpmath; rewrites the file byte for byte)
"""

import json
import pathlib

from make import f32, text
from mpmath import exp, log, mp, mpf

DIGITS = 600


class R:
    """What is known of a sequence."""

    def __init__(self, log_p, length, reference, reward, baseline):
        self.log_p, self.length = mpf(log_p), mpf(length)
        self.reference, self.reward, self.baseline = mpf(reference), mpf(reward), mpf(baseline)

    def moved(self, by):
        other = R(self.log_p, self.length, self.reference, self.reward, self.baseline)
        other.log_p += by
        return other

    @property
    def mean(self):
        return self.log_p / self.length

    @property
    def ratio(self):
        return self.log_p - self.reference


def sigmoid(x):
    return 1 / (1 + exp(-x))


def log_sigmoid(x):
    return -log(1 + exp(-x))


# --- one sequence -------------------------------------------------------------------------------------------------


def length_nll(r, alpha):
    return -r.log_p / r.length**alpha


def poft(r, beta, gamma):
    return -log_sigmoid(beta * r.mean - beta * r.reference / r.length + gamma)


def implicit(phi, derivative, floor=None):
    """-phi of the implicit reward; below the floor its tangent there."""

    def loss(r, beta, floor=floor):
        x = beta * r.ratio
        if floor is None or x >= floor:
            return -phi(x)
        return -phi(floor) - derivative(floor) * (x - floor)

    return loss


implicit_chi2 = implicit(lambda x: x - x * x / 4, None)
implicit_hellinger = implicit(lambda x: x / (1 + x), lambda x: 1 / (1 + x) ** 2)
implicit_js = implicit(lambda x: log(2 - exp(-x)), lambda x: exp(-x) / (2 - exp(-x)))
implicit_reverse_kl = implicit(lambda x: -exp(-(x + 1)), lambda x: exp(-(x + 1)))
implicit_tv = implicit(lambda x: min(x, mpf(1) / 2), None)


def filtered_nll(r, threshold):
    return -r.log_p if r.reward >= threshold else mpf(0)


def kto(r, beta, desirable, undesirable):
    if r.reward > 0:
        return desirable * (1 - sigmoid(beta * (r.ratio - r.baseline)))
    return undesirable * (1 - sigmoid(beta * (r.baseline - r.ratio)))


def trajectory_balance(r, beta):
    return (r.baseline + r.log_p - beta * r.reward) ** 2


def tsallis(r, q):
    return -r.log_p if q == 1 else (1 - exp(r.log_p) ** (1 - q)) / (1 - q)


SEQUENCES = {
    "length_nll": (length_nll, [(0.0,), (0.6,), (1.0,), (2.0,)]),
    "poft": (poft, [(1.0, 0.0), (10.0, 0.5), (0.1, -3.0)]),
    "implicit_chi2": (implicit_chi2, [(0.1,), (1.0,)]),
    "implicit_hellinger": (implicit_hellinger, [(0.1, -0.9), (1.0, -0.5), (0.01, 0.0)]),
    "implicit_js": (implicit_js, [(0.1, -0.6), (1.0, -0.25), (0.01, 0.0)]),
    "implicit_reverse_kl": (implicit_reverse_kl, [(0.1, -5.0), (1.0, -1.0), (0.01, 0.0)]),
    "implicit_tv": (implicit_tv, [(0.1,), (1.0,)]),
    "filtered_nll": (filtered_nll, [(0.0,), (0.5,), (-2.0,)]),
    "kto": (kto, [(0.1, 1.0, 1.0), (0.5, 1.0, 1.5), (5.0, 2.0, 0.25)]),
    "trajectory_balance": (trajectory_balance, [(1.0,), (0.1,), (16.0,)]),
    "tsallis": (tsallis, [(0.0,), (0.1,), (0.5,), (0.9,), (1.0,)]),
}


# --- pairs: as in TRL's trainers, from chosen, rejected and, for mmpo, the gap -------------------------------------


def margin(w, l):
    return (w.log_p - l.log_p) - (w.reference - l.reference)


def smoothed(h, smoothing):
    return -log_sigmoid(h) * (1 - smoothing) - log_sigmoid(-h) * smoothing


def dpo(w, l, gap, beta, smoothing, lam):
    return smoothed(beta * margin(w, l), smoothing) - lam * w.mean


def robust_dpo(w, l, gap, beta, smoothing):
    h = beta * margin(w, l)
    return (-log_sigmoid(h) * (1 - smoothing) + log_sigmoid(-h) * smoothing) / (1 - 2 * smoothing)


def ipo(w, l, gap, beta, alpha):
    h = w.ratio / w.length**alpha - l.ratio / l.length**alpha
    return (h - 1 / (2 * beta)) ** 2


def hinge(w, l, gap, beta):
    return max(mpf(0), 1 - beta * margin(w, l))


def slic(w, l, gap, delta, lam):
    return max(mpf(0), delta - w.log_p + l.log_p) - lam * w.mean


def simpo(w, l, gap, beta, gamma, smoothing, lam):
    return smoothed(beta * (w.mean - l.mean - gamma / beta), smoothing) - lam * w.mean


def orpo(w, l, gap, lam):
    log_odds = (w.mean - l.mean) - (log(1 - exp(w.mean)) - log(1 - exp(l.mean)))
    return -w.mean - lam * log_sigmoid(log_odds)


def cpo(w, l, gap, beta, smoothing, lam):
    return smoothed(beta * (w.log_p - l.log_p), smoothing) - lam * w.mean


def mmpo(w, l, gap, beta, gamma):
    p, h = sigmoid(gamma * gap), beta * margin(w, l)
    return -p * log_sigmoid(h) - (1 - p) * log_sigmoid(-h)


def exo(w, l, gap, beta, smoothing):
    h = beta * margin(w, l)
    return sigmoid(h) * (log_sigmoid(h) - log(1 - smoothing)) + sigmoid(-h) * (log_sigmoid(-h) - log(smoothing))


def nca(w, l, gap, beta):
    rw, rl = beta * w.ratio, beta * l.ratio
    return -log_sigmoid(rw) - log_sigmoid(-rw) / 2 - log_sigmoid(-rl) / 2


def sppo(w, l, gap, beta):
    return (w.ratio - 1 / (2 * beta)) ** 2 + (l.ratio + 1 / (2 * beta)) ** 2


def apo_zero(w, l, gap, beta):
    return 1 - sigmoid(beta * w.ratio) + sigmoid(beta * l.ratio)


def apo_down(w, l, gap, beta):
    return sigmoid(beta * w.ratio) + 1 - sigmoid(beta * (w.ratio - l.ratio))


def discopop(w, l, gap, beta, tau):
    h = beta * margin(w, l)
    blend = sigmoid(h / tau)
    return -log_sigmoid(h) * (1 - blend) + exp(-h) * blend


BETAS = [(0.1,), (0.5,), (5.0,)]
PREFERENCES = {
    "dpo": (dpo, [(0.1, 0.0, 0.0), (0.5, 0.1, 0.0), (5.0, 0.5, 1.0), (0.01, 0.0, 0.25)]),
    "robust_dpo": (robust_dpo, [(0.1, 0.1), (0.5, 0.0), (5.0, 0.49)]),
    "ipo": (ipo, [(0.1, 0.0), (0.1, 1.0), (5.0, 0.5)]),
    "hinge": (hinge, BETAS),
    "slic": (slic, [(1.0, 0.0), (100.0, 0.5), (0.0, 1.0)]),
    "simpo": (simpo, [(2.0, 1.0, 0.0, 0.0), (10.0, 5.0, 0.1, 0.0), (2.5, 0.0, 0.0, 1.0)]),
    "orpo": (orpo, [(0.1,), (1.0,), (0.0,)]),
    "cpo": (cpo, [(0.1, 0.0, 1.0), (0.5, 0.2, 0.0), (5.0, 0.0, 0.5)]),
    "mmpo": (mmpo, [(0.1, 1.0), (0.5, 0.25), (5.0, 0.0)]),
    "exo": (exo, [(0.1, 1e-3), (0.5, 0.25), (5.0, 1e-6)]),
    "nca": (nca, BETAS),
    "sppo": (sppo, BETAS),
    "apo_zero": (apo_zero, BETAS),
    "apo_down": (apo_down, BETAS),
    "discopop": (discopop, [(0.1, 0.05), (0.5, 1.0), (5.0, 0.25)]),
}


# --- groups, best first -------------------------------------------------------------------------------------------


def brio(group, margin, alpha, per_gap):
    """Gap by gap, as in the authors' code: a sum over gaps of a mean (per_gap = 1) or a sum (per_gap = 0)."""
    scores = [r.log_p / r.length**alpha for r in group]
    total = mpf(0)
    for gap in range(1, len(scores)):
        better, worse = scores[:-gap], scores[gap:]
        hinges = [max(mpf(0), b - a + margin * gap) for a, b in zip(better, worse)]
        total += sum(hinges) / mpf(len(hinges)) ** per_gap
    return total


def rwr(group, beta, alpha):
    mass = sum(exp(r.reward / beta) for r in group)
    return sum(-r.log_p / r.length**alpha * exp(r.reward / beta) / mass for r in group)


def iwae(group):
    return -log(sum(exp(r.log_p) / exp(r.reference) for r in group) / len(group))


def variational(group, alpha, frozen=None):
    weights = [r.reward * exp(r.ratio / r.length**alpha) for r in frozen or group]
    return -sum(w * r.log_p for w, r in zip(weights, group)) / sum(weights)


def plackett_luce(group, beta):
    scores = [beta * r.ratio for r in group]
    return -sum(log(exp(scores[k]) / sum(exp(s) for s in scores[k:])) for k in range(len(scores) - 1))


def pro(group, lam):
    """As in the authors' code, without the 1e-10 that it adds in a logarithm."""
    total = -lam * group[0].log_p
    for k in range(len(group) - 1):
        sharpness = [group[k].reward - r.reward for r in group[k + 1 :]]
        own = group[k].mean * max(sharpness)
        others = sum(exp(r.mean * t) for r, t in zip(group[k + 1 :], sharpness))
        total += log(exp(own) + others) - own
    return total


GROUPS = {
    "brio": (brio, [(0.001, 1.0, 1.0), (0.5, 2.0, 0.0), (0.25, 0.6, 1.0), (1.0, 0.0, 0.0)]),
    "rwr": (rwr, [(1.0, 0.0), (0.1, 1.0), (100.0, 0.5)]),
    "iwae": (iwae, [()]),
    "variational": (variational, [(1.0,), (0.0,), (0.5,)]),
    "plackett_luce": (plackett_luce, [(0.1,), (1.0,), (5.0,)]),
    "pro": (pro, [(0.05,), (0.0,), (1.0,)]),
}


# --- inputs: log_p, length, reference, reward, baseline -----------------------------------------------------------

SAMPLES = [
    (-0.0078125, 4, -0.5, 1.0, 0.0),
    (-3.5, 2, -2.25, 1.0, 0.5),
    (-12.0, 7, -13.5, -1.0, 0.25),
    (-40.0, 16, -38.0, 0.5, 1.5),
    (-180.5, 120, -200.25, 0.0, 3.0),
    (-75.0, 64, -60.0, -2.0, 0.0),
    (-1e-9, 3, -1e-3, 2.0, 0.125),
]
PAIRS = [(0, 1, 1.0), (1, 0, -0.5), (2, 3, 0.0), (4, 5, 4.0), (5, 4, 0.25), (6, 2, 10.0), (3, 6, 2.0), (1, 2, 0.75)]
# Places, and rewards in their stead.
RANKED = [
    ((0, 1), (1.0, 0.0)),
    ((1, 0, 2), (2.0, 1.0, 1.0)),
    ((3, 2, 1, 0), (0.75, 0.5, 0.25, 0.125)),
    ((4, 5, 3, 2, 6), (1.0, 0.5, 0.5, 0.5, 0.0)),
    ((2, 1), (0.5, 0.5)),
]


def derivative(loss, group, at):
    """d loss / d log_p of one sequence, by a central difference whose error is 1e-120 of itself."""
    h = mpf(10) ** -60
    moved = lambda by: [r.moved(by) if i == at else r for i, r in enumerate(group)]
    return (loss(moved(h)) - loss(moved(-h))) / (2 * h)


def entry(name, parameters, points):
    return {"objective": name, "parameters": list(parameters), "points": points}


def point(group, gap, loss, held):
    return {
        "responses": [[repr(float(x)) for x in (r.log_p, r.length, r.reference, r.reward, r.baseline)] for r in group],
        "gap": repr(gap),
        "loss": text(loss(group)),
        "slopes": [text(derivative(held, group, i)) for i in range(len(group))],
    }


def main():
    with mp.workdps(DIGITS):
        samples = [R(*sample) for sample in SAMPLES]
        entries = []
        for name, (formula, settings) in SEQUENCES.items():
            for parameters in settings:
                values = [f32(x) for x in parameters]
                loss = lambda group: formula(group[0], *values)
                entries.append(entry(name, parameters, [point([r], 0.0, loss, loss) for r in samples]))
        for name, (formula, settings) in PREFERENCES.items():
            for parameters in settings:
                values = [f32(x) for x in parameters]
                points = []
                for w, l, gap in PAIRS:
                    loss = lambda group: formula(group[0], group[1], mpf(gap), *values)
                    points.append(point([samples[w], samples[l]], gap, loss, loss))
                entries.append(entry(name, parameters, points))
        for name, (formula, settings) in GROUPS.items():
            for parameters in settings:
                values = [f32(x) for x in parameters]
                points = []
                for places, rewards in RANKED:
                    group = [R(*SAMPLES[i][:3], reward, 0.0) for i, reward in zip(places, rewards)]
                    loss = lambda group: formula(group, *values)
                    frozen = {"frozen": group} if name == "variational" else {}
                    points.append(point(group, 0.0, loss, lambda live: formula(live, *values, **frozen)))
                entries.append(entry(name, parameters, points))
    about = {
        "what": "Values and slopes of objectives of sequences, pairs and groups.",
        "how": "core/golden/responses.py, mpmath with 600 digits; inputs are taken as exact f64, parameters as exact f32; "
               "slopes are central differences, not derived formulas.",
        "responses": "[log_p, length, reference, reward, baseline] of each sequence, best first",
        "slopes": "d loss / d log_p of each",
        "numbers": "decimal text of 25 digits, so that reading them does not depend on a JSON parser's rounding",
    }
    path = pathlib.Path(__file__).with_name("responses.json")
    lines = ",\n  ".join(json.dumps(entry) for entry in entries)
    path.write_text(f'{{\n "about": {json.dumps(about, indent=2)},\n "entries": [\n  {lines}\n ]\n}}\n')
    print(f"{path}: {sum(len(entry['points']) for entry in entries)} points")


if __name__ == "__main__":
    main()
