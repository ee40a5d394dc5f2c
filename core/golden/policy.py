#!/usr/bin/env python3
"""Golden vectors for the surrogates and the advantages of tokenloss-core, computed with mpmath from the formulas alone.

Writes policy.json and advantage.json beside this file. It calls nothing of ours: losses are textbook formulas, slopes
are numerical derivatives of them with every stop-gradient factor held, counts come from comparing ratios as they are.

    python3 core/golden/policy.py          (needs mpmath; rewrites the files byte for byte)
"""

import json
import pathlib
import struct

from mpmath import exp, fsum, log, mp, mpf, nstr, sqrt

mp.dps = 80


def f32(x):
    """A parameter: the f32 nearest to x, exactly."""
    return mpf(struct.unpack("f", struct.pack("f", x))[0])


def text(x):
    return nstr(x, 25, min_fixed=0, max_fixed=0) if x != 0 else "0.0"


def mean(xs):
    return fsum(xs) / len(xs)


# --- surrogates: the loss of a rollout, summed over its tokens; x is what moves, f the same at the point ----------------


def tokens(of):
    """An objective that judges tokens one by one: of(x, f, old, reference, advantage, parameters)."""
    return lambda x, f, r, v: fsum(of(*t, v) for t in zip(x, f, r["old"], r["reference"], r["advantages"]))


def bounded(ratio, low, high):
    return min(max(ratio, 1 - low), 1 + high)


def clipped_surrogate(ratio, a, low, high):
    return -min(a * ratio, a * bounded(ratio, low, high))


def dual_clip(x, f, old, ref, a, v):
    loss = clipped_surrogate(exp(x - old), a, v[0], v[1])
    return min(loss, -a * v[2]) if a < 0 else loss


def sapo(x, f, old, ref, a, v):
    tau = v[0] if a > 0 else v[1]
    return -a * 4 / tau / (1 + exp(-tau * (exp(x - old) - 1)))


def bgpo(x, f, old, ref, a, v):
    return -a * (1 + x - old) if a >= 0 else -a * exp(x - old)


def log_ratios(x, r):
    return [p - old for p, old in zip(x, r["old"])]


def gspo(x, f, r, v):
    return len(x) * clipped_surrogate(exp(mean(log_ratios(x, r))), mean(r["advantages"]), *v)


def gspo_token(x, f, r, v):
    s = exp(mean(log_ratios(f, r)))
    return fsum(clipped_surrogate(s * exp(p) / exp(q), a, *v) for p, q, a in zip(x, f, r["advantages"]))


def gmpo(x, f, r, v):
    a = mean(r["advantages"])
    clip = (lambda d: min(d, v[1])) if a >= 0 else (lambda d: max(d, -v[0]))
    return -len(x) * a * exp(mean([clip(d) for d in log_ratios(x, r)]))


POLICIES = {
    "reinforce": (tokens(lambda x, f, old, ref, a, v: -a * x), [()]),
    "importance_weighted": (tokens(lambda x, f, old, ref, a, v: -a * exp(x - old)), [()]),
    "ppo": (tokens(lambda x, f, old, ref, a, v: clipped_surrogate(exp(x - old), a, *v)),
            [(0.2, 0.2), (0.2, 0.28), (1.0, 0.5), (0.0, 0.0)]),
    "dual_clip": (tokens(dual_clip), [(0.2, 0.2, 3.0), (0.2, 0.28, 10.0), (1.0, 1e6, 1.5)]),
    "cispo": (tokens(lambda x, f, old, ref, a, v: -bounded(exp(f - old), *v) * a * x),
              [(1.0, 0.2), (0.2, 0.2), (1.0, 4.0)]),
    "sapo": (tokens(sapo), [(1.0, 1.05), (0.01, 10.0), (5.0, 2.0)]),
    "gspo": (gspo, [(3e-4, 4e-4), (0.2, 0.2)]),
    "gspo_token": (gspo_token, [(3e-4, 4e-4), (0.2, 0.2)]),
    "gmpo": (gmpo, [(0.4, 0.4), (0.1, 1000.0)]),
    "bgpo": (tokens(bgpo), [()]),
    "shaping": (tokens(lambda x, f, old, ref, a, v: -a * exp(x) / (exp(x) + v[0])), [(0.1,), (0.5,)]),
    "k1": (tokens(lambda x, f, old, ref, a, v: v[0] * (x - ref)), [(0.04,), (1.0,)]),
    "k2": (tokens(lambda x, f, old, ref, a, v: v[0] * (x - ref) ** 2 / 2), [(0.04,), (1.0,)]),
    "k3": (tokens(lambda x, f, old, ref, a, v: v[0] * (exp(ref - x) - (ref - x) - 1)), [(0.04,), (1.0,)]),
}

# log_p, old, reference, advantages: one for the sequence or one for each token.
ROLLOUTS = [
    ("one token, up", [-0.5], [-0.75], [-0.625], [1.0]),
    ("one token, wildly up against a negative advantage", [-0.25], [-2.0], [-1.0], [-1.5]),
    ("three tokens, down", [-1.5, -0.375, -2.25], [-1.25, -0.25, -2.5], [-1.5, -0.5, -2.0], [0.75]),
    ("four tokens, mixed", [-0.125, -3.0, -1.0, -0.5], [-0.875, -2.0, -1.0625, -0.25],
     [-0.5, -3.5, -1.0, -0.75], [-2.0]),
    ("five tokens with advantages of their own", [-0.3, -0.9, -2.1, -0.05, -1.7], [-0.35, -1.6, -1.2, -0.06, -1.71],
     [-0.4, -1.0, -1.9, -0.01, -4.0], [1.5, 0.25, -0.75, -1.25, 2.0]),
    ("ratios near 1", [-0.5, -1.25, -0.875], [-0.50006103515625, -1.2501220703125, -0.8748779296875],
     [-0.5, -1.2500000001, -0.875], [0.5]),
    ("certain, hopeless, and far apart", [-1e-9, -40.0, -30.0, -2.0], [-1e-3, -42.0, -1.0, -22.0],
     [-1e-5, -41.0, -10.0, -12.0], [1.25]),
    ("on the old policy", [-0.7, -1.3], [-0.7, -1.3], [-0.70000001, -1.4], [-0.5]),
]


def rollout(entry):
    name, log_p, old, reference, advantages = entry
    per_token = advantages if len(advantages) == len(log_p) else advantages * len(log_p)
    exact = {"old": old, "reference": reference, "advantages": per_token}
    return [mpf(x) for x in log_p], {key: [mpf(x) for x in values] for key, values in exact.items()}


def slope(loss, x, r, values, t):
    """By a central difference, which is exact to 1e-40 of the third derivative."""
    h = mpf(10) ** -25
    at = lambda by: loss([p + by if i == t else p for i, p in enumerate(x)], x, r, values)
    return (at(h) - at(-h)) / (2 * h)


def policies():
    out = []
    for name, (loss, settings) in POLICIES.items():
        for parameters in settings:
            values = [f32(x) for x in parameters]
            results = []
            for entry in ROLLOUTS:
                x, r = rollout(entry)
                # A ratio of exactly 1 is a kink of a clip of 0: torch.max and torch.clamp agree on its inner side.
                if parameters == (0.0, 0.0) and entry[0] == "on the old policy":
                    results.append(None)
                    continue
                slopes = [text(slope(loss, x, r, values, t)) for t in range(len(x))]
                results.append([text(loss(x, x, r, values)), slopes])
            out.append({"objective": name, "parameters": list(parameters), "results": results})
    return out


# --- advantages ------------------------------------------------------------------------------------------------------


def deviation(xs):
    return sqrt(fsum((x - mean(xs)) ** 2 for x in xs) / (len(xs) - 1)) if len(xs) > 1 else mpf(0)


def standard(xs, eps):
    """(x - mean) / (std + eps), and 0 where all are the same."""
    m, s = mean(xs), deviation(xs)
    return [(x - m) / (s + eps) if s != 0 else mpf(0) for x in xs]


def grouped(of):
    """An estimator that knows one group at a time: of(rewards, strata, baselines, parameters)."""
    def all_groups(o, v):
        spans = zip(o["offsets"], o["offsets"][1:])
        parts = [of(o["rewards"][a:b], o["strata"][a:b], o["baselines"][a:b], v) for a, b in spans]
        return [x for part in parts for x in part]
    return all_groups


def stratified(rewards, strata, baselines, v):
    whole, out = standard(rewards, v[1]), []
    for i, k in enumerate(strata):
        members = [j for j, of in enumerate(strata) if of == k]
        own = standard([rewards[j] for j in members], v[1])[members.index(i)]
        out.append(v[0] * own + (1 - v[0]) * whole[i])
    return out


def leave_one_out(rewards, strata, baselines, v):
    return [x - mean(rewards[:i] + rewards[i + 1:]) for i, x in enumerate(rewards)]


def centred(rewards, strata, baselines, v):
    return [x - mean(rewards) for x in rewards]


def gae(rewards, strata, baselines, v):
    gamma, lam = v
    n = len(rewards)
    values = baselines + [mpf(0)]
    deltas = [rewards[t] + gamma * values[t + 1] - values[t] for t in range(n)]
    return [fsum((gamma * lam) ** (s - t) * deltas[s] for s in range(t, n)) for t in range(n)]


ADVANTAGES = {
    "grpo": (grouped(lambda r, s, b, v: standard(r, v[0])), [(1e-6,), (0.0,), (0.5,)]),
    "dr_grpo": (grouped(centred), [()]),
    "rloo": (grouped(leave_one_out), [()]),
    "stratified": (grouped(stratified), [(0.5, 1e-6), (1.0, 0.0), (0.0, 0.25)]),
    "reinforce_plus_plus": (lambda o, v: standard(grouped(centred)(o, v), v[0]), [(1e-8,), (0.5,)]),
    "spo": (lambda o, v: standard([r - b for r, b in zip(o["rewards"], o["baselines"])], v[3]),
            [(0.875, 0.96, 0.06, 1e-8)]),
    "gae": (grouped(gae), [(1.0, 0.95), (0.99, 0.9), (1.0, 1.0), (0.5, 0.0)]),
}

OUTCOMES = [
    {"offsets": [0, 2], "rewards": [1.0, 0.0], "strata": [0, 0], "baselines": [0.5, 0.25]},
    {"offsets": [0, 4, 6, 11],
     "rewards": [1.0, 0.0, 0.0, 1.0, 0.25, 0.75, 0.1, 0.7, 0.7, -0.4, 1.3],
     "strata": [1, 1, 2, 2, 5, 9, 3, 0, 3, 0, 7],
     "baselines": [0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.2, 0.4, 0.6, 0.8, 1.0]},
    {"offsets": [0, 3, 7], "rewards": [0.1, 0.1, 0.1, 100.0, 100.5, 99.5, 1000.0], "strata": [0, 0, 1, 4, 4, 4, 4],
     "baselines": [0.0, 0.5, 1.0, -1.0, 0.0, 50.0, 99.0]},
]


def advantages():
    out = []
    for name, (estimate, settings) in ADVANTAGES.items():
        for parameters in settings:
            values = [f32(x) for x in parameters]
            exact = lambda o: {**o, "rewards": [mpf(x) for x in o["rewards"]],
                               "baselines": [mpf(x) for x in o["baselines"]]}
            results = [[text(a) for a in estimate(exact(o), values)] for o in OUTCOMES]
            out.append({"estimator": name, "parameters": list(parameters), "results": results})
    return out


def tracker():
    """The counts of one prompt over a few steps: [reward, drift, baseline before, wins after, losses after]."""
    rho_min, rho_max, half_life = f32(0.875), f32(0.96), f32(0.06)
    wins = losses = 1 / (1 - rho_min) / 2
    steps = []
    for reward, drift in [(1.0, 0.0), (0.0, 0.005), (1.0, 0.01), (0.5, 0.02), (1.0, 1.0), (0.0, 0.0078125)]:
        baseline = wins / (wins + losses)
        rho = min(max(mpf(2) ** (-mpf(drift) / half_life), rho_min), rho_max)
        wins, losses = rho * wins + mpf(reward), rho * losses + 1 - mpf(reward)
        steps.append([repr(reward), repr(drift), text(baseline), text(wins), text(losses)])
    return steps


def write(name, about, **parts):
    lines = lambda entries: ",\n  ".join(json.dumps(entry) for entry in entries)
    body = "".join(f',\n "{key}": [\n  {lines(entries)}\n ]' for key, entries in parts.items())
    path = pathlib.Path(__file__).with_name(name)
    path.write_text(f'{{\n "about": {json.dumps(about, indent=2)}{body}\n}}\n')
    print(path)


def main():
    keys = ["name", "log_p", "old", "reference", "advantages"]
    how = "core/golden/policy.py, mpmath with 80 digits; inputs are exact f64, parameters exact f32"
    write(
        "policy.json",
        {"what": "Losses of rollouts, summed over tokens, and the slope of each token.",
         "how": how + "; slopes are central differences with stop-gradient factors held",
         "results": "for each rollout in order: [loss, slopes]; null where the rollout lies on a kink"},
        rollouts=[dict(zip(keys, entry)) for entry in ROLLOUTS],
        policies=policies(),
    )
    write(
        "advantage.json",
        {"what": "Advantages of batches of rewards, and the counts of SPO's tracker for one prompt.",
         "how": how,
         "results": "for each batch in order: its advantages",
         "tracker": "[reward, drift, baseline before, wins after, losses after]"},
        outcomes=OUTCOMES,
        advantages=advantages(),
        tracker=tracker(),
    )


if __name__ == "__main__":
    main()
