#!/usr/bin/env python3
"""Golden vectors for the objectives of samples, computed with mpmath from textbook formulas alone.

Writes sample.json beside this file. It calls nothing of ours, and solves nothing as we do: CVaR is its minimum over
thresholds, the chi-square ball its dual, a penalised spectral risk the min-max formula of isotonic regression. Weights are
central differences of the loss, so that a slip in a derived gradient cannot hide.

    python3 core/golden/sample.py          (needs mpmath; rewrites the file byte for byte)
"""

import json
import pathlib
import struct

from mpmath import exp, expm1, inf, log, mp, mpf, nstr, sqrt

mp.dps = 90
STEP = mpf(10) ** -30


def f32(x):
    """A parameter: the f32 nearest to x, exactly."""
    return mpf(struct.unpack("f", struct.pack("f", x))[0])


class Case:
    """Samples; all inputs are exact binary numbers. In groups they are whole pairs."""

    def __init__(self, name, losses, reference=None, offsets=(0, 2, 6)):
        self.name, self.losses, self.reference, self.offsets = name, losses, reference, list(offsets)
        self.weights = [0.5, 2.0, 1.0, 0.0, 0.25, 3.0]
        self.propensities = [1.0, 0.5, 0.125, 0.25, 0.75, 0.0625]
        self.duals = [1.0, 0.0, 0.5, 2.0, 0.25, 1.5]
        self.difficulties = [0.5, 2.0, 1.0, 3.5, 0.25, 1.75]
        self.group_weights = [0.25, 0.75]
        self.proportions = [0.5, 0.25]

    def excess(self):
        reference = self.reference or [0.0] * len(self.losses)
        return [mpf(l) - mpf(r) for l, r in zip(self.losses, reference)]

    def groups(self):
        return list(zip(self.offsets, self.offsets[1:]))


CASES = [
    Case("six apart", [0.5, 3.0, 1.25, 0.125, 2.0, 4.5]),
    Case("of both signs and many sizes", [-2.0, 0.0078125, 7.5, -0.5, 1.0, 0.75]),
    Case("less a reference", [2.5, 1.0, 3.25, 0.5, 4.0, 1.75], [1.0, 1.5, 0.25, 0.75, 1.5, 2.0]),
    Case("close together", [1.0, 1.015625, 1.03125, 1.0625, 1.09375, 1.25], offsets=(0, 4, 6)),
]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


# --- formulas: the loss of losses l, in a case c, with parameters ------------------------------------------------------


def weighted(l, w):
    return sum(a * b for a, b in zip(l, w)) / sum(w)


def inverses(c, clip):
    return [min(1 / mpf(p), clip) for p in c.propensities]


def cvar(l, c, alpha):
    return min(eta + sum(max(mpf(0), x - eta) for x in l) / (alpha * len(l)) for eta in l)


def top_k(l, c, k):
    whole, rest = int(k), k - int(k)
    order = sorted(l, reverse=True) + [mpf(0)]
    return (sum(order[:whole]) + rest * order[whole]) / k


def extremile(l, c, r):
    n = mpf(len(l))
    return sum(x * (((i + 1) / n) ** r - (i / n) ** r) for i, x in enumerate(sorted(l)))


def esrm(l, c, rho):
    n = mpf(len(l))
    if rho == 0:
        return mean(l)
    return sum(x * (exp(rho * (i + 1) / n) - exp(rho * i / n)) / expm1(rho) for i, x in enumerate(sorted(l)))


def mean_cvar(l, c, alpha, lam):
    return (1 - lam) * mean(l) + lam * cvar(l, c, alpha)


def kl_dro(l, c, tau, rho):
    return tau * log(mean(exp(x / tau) for x in l)) + tau * rho


def tilted(l, c, t):
    return mean(l) if t == 0 else log(mean(exp(t * x) for x in l)) / t


def chi_square_dro(l, c, rho):
    """min over eta of eta + sqrt(1 + rho) sqrt(mean (l - eta)_+^2), convex, by bisection of its derivative."""
    above = lambda eta: [max(mpf(0), x - eta) for x in l]
    slope = lambda eta: 1 - sqrt(1 + rho) * mean(above(eta)) / sqrt(mean(x * x for x in above(eta)))
    hi, span = max(l), max(l) - min(l)
    if rho == 0:
        return mean(l)  # the least eta there is
    if slope(hi - STEP * STEP) < 0:
        return hi
    lo = hi - span
    while slope(lo) > 0:
        lo -= 2 * (hi - lo)
    for _ in range(320):
        middle = (lo + hi) / 2
        lo, hi = (middle, hi) if slope(middle) < 0 else (lo, middle)
    return lo + sqrt(1 + rho) * sqrt(mean(x * x for x in above(lo)))


def hinge(l, c, epsilon, alpha):
    return mean(alpha / 2 * max(mpf(0), x - epsilon) ** 2 for x in l)


def feasible(l, c, epsilon, eta):
    return mean(d * (x - epsilon) for x, d in zip(l, map(mpf, c.duals)))


def resilient(l, c, epsilon, alpha, eta):
    """The slack is what minimises: u = d / alpha."""
    relaxed = lambda x, d, u: d * (x - epsilon - u) + alpha / 2 * u * u
    return mean(relaxed(x, d, d / alpha) for x, d in zip(l, map(mpf, c.duals)))


def risks(l, c):
    return [mean(l[a:b]) for a, b in c.groups()]


def group_dro(l, c, eta):
    return sum(mpf(q) * r for q, r in zip(c.group_weights, risks(l, c)))


def rex(l, c, beta):
    r = risks(l, c)
    return mean(r) + beta * mean((x - mean(r)) ** 2 for x in r)


def mm_rex(l, c, beta):
    """The corners of the mixtures: all have the least share but one."""
    r = risks(l, c)
    return max(sum((1 + (len(r) - 1) * beta if e == worst else -beta) * x for e, x in enumerate(r)) for worst in range(len(r)))


def irm(l, c):
    return mean(r * r for r in risks(l, c))


def irm_unbiased(l, c):
    return mean(mean(l[a:b:2]) * mean(l[a + 1:b:2]) for a, b in c.groups())


def easy_llp(l, c, prior):
    bags = []
    for (a, b), share in zip(c.groups(), c.proportions):
        k = mpf(b - a) / 2
        positive, negative = mean(l[a:b:2]), mean(l[a + 1:b:2])
        bags.append((k * (mpf(share) - prior) + prior) * positive + (k * (prior - mpf(share)) + 1 - prior) * negative)
    return mean(bags)


def cadft(l, c, beta):
    d = [mpf(x) for x in c.difficulties]
    deviation = sqrt(mean((x - mean(d)) ** 2 for x in d))
    return mean(exp(-beta * max(mpf(0), (x - mean(d)) / deviation)) * y for x, y in zip(d, l))


# --- penalised spectral risks, by the min-max formula of isotonic regression ------------------------------------------

SPECTRA = {"cvar": cvar, "top_k": top_k, "extremile": extremile, "esrm": esrm, "mean_cvar": mean_cvar}


def spectrum(name, n, values):
    """The weights of n losses, best first: what the risk makes of losses of which the j worst are 1."""
    tail = [SPECTRA[name]([mpf(0)] * (n - j) + [mpf(1)] * j, None, *values) for j in range(n + 1)]
    return [tail[j] - tail[j - 1] for j in range(n, 0, -1)]


def isotonic(level, n):
    return [max(min(level(a, b) for b in range(i, n)) for a in range(i + 1)) for i in range(n)]


def chi_square(l, name, nu, values):
    n, x = len(l), sorted(l)
    sigma = spectrum(name, n, values)
    target = [x[i] / (n * nu) - sigma[i] for i in range(n)]
    fit = isotonic(lambda a, b: mean(target[a:b + 1]), n)
    q = [x[i] / (n * nu) - fit[i] for i in range(n)]
    return sum(a * b for a, b in zip(q, x)) - nu / 2 * n * sum((p - mpf(1) / n) ** 2 for p in q)


def kl(l, name, nu, values):
    n, x = len(l), sorted(l)
    sigma = spectrum(name, n, values)

    def level(a, b):
        mass = sum(sigma[a:b + 1])
        return inf if mass == 0 else log(sum(exp(y / nu) for y in x[a:b + 1])) - log(n * mass)

    fit = isotonic(level, n)
    q = [exp(x[i] / nu - fit[i]) / n for i in range(n)]
    return sum(a * b for a, b in zip(q, x)) - nu * sum(p * log(n * p) for p in q)


PENALTIES = {"chi_square": chi_square, "kl": kl}

# --- what is written ----------------------------------------------------------------------------------------------------

OBJECTIVES = {
    "mean": (lambda l, c: mean(l), [()]),
    "weighted_mean": (lambda l, c: weighted(l, [mpf(w) for w in c.weights]), [()]),
    "inverse_propensity": (lambda l, c, clip: mean(a * b for a, b in zip(l, inverses(c, clip))), [(1.0,), (5.0,), (1e30,)]),
    "self_normalised": (lambda l, c, clip: weighted(l, inverses(c, clip)), [(1.0,), (5.0,), (1e30,)]),
    "kl_dro": (kl_dro, [(1.0, 0.0), (0.1, 0.5), (10.0, 2.0), (1e4, 0.0)]),
    "tilted": (tilted, [(0.0,), (1.0,), (-1.0,), (10.0,), (-10.0,), (1e-4,)]),
    "chi_square_dro": (chi_square_dro, [(0.25,), (0.8,), (1.0,), (2.0,), (4.0,), (8.0,)]),
    "feasible": (feasible, [(0.5, 0.25)]),
    "resilient": (resilient, [(0.5, 2.0, 0.25)]),
    "squared_hinge": (hinge, [(0.6, 2.0), (0.0, 0.5)]),
    "group_dro": (group_dro, [(0.5,)]),
    "rex": (rex, [(0.0,), (1.0,), (10.0,)]),
    "mm_rex": (mm_rex, [(0.0,), (0.5,), (10.0,)]),
    "irm": (irm, [()]),
    "irm_unbiased": (irm_unbiased, [()]),
    "easy_llp": (easy_llp, [(0.5,), (0.125,)]),
    "cadft": (cadft, [(0.0,), (1.0,), (3.0,)]),
    "cvar": (cvar, [(1.0,), (0.5,), (0.3,), (0.7,), (0.01,)]),
    "top_k": (top_k, [(1.0,), (2.0,), (3.5,), (6.0,)]),
    "extremile": (extremile, [(1.0,), (2.0,), (2.5,), (20.0,)]),
    "esrm": (esrm, [(0.0,), (1.0,), (7.0,)]),
    "mean_cvar": (mean_cvar, [(0.3, 0.5), (0.5, 0.25)]),
}
AROUND = {"cvar": (0.7,), "top_k": (2.0,), "extremile": (2.5,), "esrm": (4.0,), "mean_cvar": (0.3, 0.5)}
NU = [0.01, 0.25, 1.0, 8.0, 1e3]


def text(x):
    """25 significant digits, enough to name an f64 and then some."""
    return nstr(x, 25, min_fixed=0, max_fixed=0) if x != 0 else "0.0"


def derivatives(loss, l):
    moved = lambda i, by: loss(l[:i] + [l[i] + by] + l[i + 1:])
    return [(moved(i, STEP) - moved(i, -STEP)) / (2 * STEP) for i in range(len(l))]


def entry(objective, parameters, case, loss):
    l = case.excess()
    clean = lambda x: mpf(0) if abs(x) < mpf(10) ** -25 else x  # what is 0 but for the digits that there are
    return {"objective": objective, "parameters": [repr(p) for p in parameters], "case": case.name, "loss": text(loss(l)),
            "weights": [text(clean(w)) for w in derivatives(loss, l)]}


def running(parameters, case, before):
    """The weights hold u, so they are their formula and no difference."""
    tau, gamma, eps, rho = map(f32, parameters)
    l = case.excess()
    g = eps + mean(exp(x / tau) for x in l)
    u = g if before is None else (1 - gamma) * exp(mpf(before)) + gamma * g
    return {"objective": "running_kl", "parameters": [repr(p) for p in parameters], "case": case.name,
            "before": "-inf" if before is None else repr(before), "log_u": text(log(u)), "loss": text(tau * log(u) + tau * rho),
            "weights": [text(exp(x / tau) / len(l) / u) for x in l]}


def steps(case):
    """States after a step."""
    l = case.excess()
    epsilon, alpha, eta = f32(0.5), f32(2.0), f32(0.25)
    duals = [mpf(d) for d in case.duals]
    q = [mpf(x) * exp(f32(0.5) * r) for x, r in zip(case.group_weights, risks(l, case))]
    return {
        "case": case.name,
        "feasible": [text(max(mpf(0), d + eta * (x - epsilon))) for d, x in zip(duals, l)],
        "resilient": [text(max(mpf(0), d + eta * (x - epsilon - d / alpha))) for d, x in zip(duals, l)],
        "group_dro": [text(x / sum(q)) for x in q],
    }


def main():
    samples = []
    for case in CASES:
        for name, (formula, settings) in OBJECTIVES.items():
            for parameters in settings:
                values = [f32(p) for p in parameters]
                samples.append(entry(name, parameters, case, lambda l: formula(l, case, *values)))
        for parameters, before in [((0.5, 0.9, 1e-14, 0.0), 0.75), ((2.0, 0.25, 0.5, 1.5), -1.5), ((1.0, 0.5, 0.0, 0.0), None)]:
            samples.append(running(parameters, case, before))
        for penalty, formula in PENALTIES.items():
            for inner, parameters in AROUND.items():
                for nu in NU:
                    values = [f32(p) for p in parameters]
                    loss = lambda l: formula(l, inner, f32(nu), values)
                    samples.append(entry(f"{penalty} around {inner}", (nu, *parameters), case, loss))
    about = {
        "what": "Losses and weights of the objectives of samples, and states after a step.",
        "how": "core/golden/sample.py, mpmath with 90 digits; inputs are taken as exact f64, parameters as exact f32; "
               "weights are central differences of the loss, not derived formulas.",
        "numbers": "decimal text of 25 digits, so that reading them does not depend on a JSON parser's rounding",
    }
    columns = ["losses", "reference", "weights", "propensities", "duals", "difficulties", "group_weights", "proportions"]
    cases = [{"name": c.name, "offsets": c.offsets, **{k: [repr(x) for x in getattr(c, k) or []] for k in columns}}
             for c in CASES]
    path = pathlib.Path(__file__).with_name("sample.json")
    lines = lambda entries: ",\n  ".join(json.dumps(entry) for entry in entries)
    path.write_text(
        f'{{\n "about": {json.dumps(about, indent=2)},\n "cases": [\n  {lines(cases)}\n ],\n'
        f' "samples": [\n  {lines(samples)}\n ],\n "steps": [\n  {lines([steps(c) for c in CASES])}\n ]\n}}\n'
    )
    print(f"{path}: {len(samples)} losses with their weights")


if __name__ == "__main__":
    main()
