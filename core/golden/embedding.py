#!/usr/bin/env python3
"""Golden vectors for the objectives of embeddings, computed with mpmath from the textbook formulas alone.

Writes embedding.json beside this file. It calls nothing of ours: every loss is its formula on a plain matrix, or on
plain embeddings by way of cosines, correlations or covariances, and every gradient the numerical derivative of that.
Inputs are binary floating point numbers, taken exactly; parameters the f32 nearest to what is written.

    python3 core/golden/embedding.py          (needs mpmath; rewrites the file byte for byte)
"""

import json
import pathlib
import struct

from mpmath import exp, log, mp, mpf, nstr, sqrt

mp.dps = 120


def f32(x):
    return mpf(struct.unpack("f", struct.pack("f", x))[0])


# --- formulas: of the parameters, the logits and the relations: 1 positive, 0 negative, None takes no part ---------


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def cells(relations):
    return [(i, j, r) for i, row in enumerate(relations) for j, r in enumerate(row) if r is not None]


def transposed(matrix):
    return [list(column) for column in zip(*matrix)]


def softmax(row, relations):
    total = sum(exp(z) for z, r in zip(row, relations) if r is not None)
    return [exp(z) / total if r is not None else None for z, r in zip(row, relations)]


def info_nce(p, z, relations):
    losses = []
    for row, relation in zip(z, relations):
        q = softmax(row, relation)
        targets = [log(x) for x, r in zip(q, relation) if r == 1]
        if targets:
            losses.append(-mean(targets))
    return mean(losses)


def clip(p, z, relations):
    return (info_nce(p, z, relations) + info_nce(p, transposed(z), transposed(relations))) / 2


def sig_lip(p, z, relations):
    total = sum(log(1 + exp(-z[i][j] if r == 1 else z[i][j])) for i, j, r in cells(relations))
    return total / sum(any(r is not None for r in row) for row in relations)


def log_mass(p, z, relations):
    losses = []
    for row, relation in zip(z, relations):
        q = softmax(row, relation)
        targets = [x for x, r in zip(q, relation) if r == 1]
        if targets:
            losses.append(-log(sum(targets)))
    return mean(losses)


def threshold_consistent_margin(p, z, relations):
    weight_positive, weight_negative, margin_positive, margin_negative = p
    positive = [margin_positive - z[i][j] for i, j, r in cells(relations) if r == 1 and z[i][j] <= margin_positive]
    negative = [z[i][j] - margin_negative for i, j, r in cells(relations) if r == 0 and z[i][j] >= margin_negative]
    return (weight_positive * mean(positive) if positive else 0) + (weight_negative * mean(negative) if negative else 0)


def barlow_twins(p, z, relations):
    return sum((1 - z[i][j]) ** 2 if r == 1 else p[0] * z[i][j] ** 2 for i, j, r in cells(relations))


def vic_reg(p, z, relations):
    mu, nu, gamma, eps = p
    variance = sum(max(0, gamma - sqrt(z[i][j] + eps)) for i, j, r in cells(relations) if r == 1)
    covariance = sum(z[i][j] ** 2 for i, j, r in cells(relations) if r == 0)
    return (mu * variance + nu * covariance) / len(z)


def kernel_entropy(p, z, relations):
    rows = [[x for x, r in zip(row, relation) if r is not None] for row, relation in zip(z, relations)]
    return mean(log(mean(exp(x) for x in row)) for row in rows if row)


def alignment(p, z, relations):
    return -mean(z[i][j] for i, j, r in cells(relations) if r == 1)


OBJECTIVES = {
    "info_nce": (info_nce, [()]),
    "clip": (clip, [()]),
    "sig_lip": (sig_lip, [()]),
    "log_mass": (log_mass, [()]),
    "threshold_consistent_margin": (threshold_consistent_margin, [(1.0, 1.0, 0.9, 0.5), (2.0, 0.5, 0.3, -0.2)]),
    "barlow_twins": (barlow_twins, [(0.0051,), (1.0,)]),
    "vic_reg": (vic_reg, [(25.0, 1.0, 1.0, 1e-4), (1.0, 0.04, 0.5, 0.01)]),
    "kernel_entropy": (kernel_entropy, [()]),
    "alignment": (alignment, [()]),
}

# --- inputs, none of them on a kink -------------------------------------------------------------------------------------------------------

SQUARE = [[0.875, 0.125, -0.5, 0.0625], [0.25, 0.75, 0.375, -0.125], [-0.25, 0.625, 0.9375, 0.53125], [0.0, -0.75, 0.1875, 0.4375]]
WIDE = [[0.875, 0.125, 0.53125, 0.0625, 0.3125], [0.25, 0.75, 0.375, 0.625, 0.71875], [0.0, 0.625, 0.9375, 0.46875, 0.28125]]


def diagonal(n):
    return [[int(i == j) for j in range(n)] for i in range(n)]


def targets(targets, columns):
    return [[None if t == -100 else int(j == t) for j in range(columns)] for t in targets]


def labels(rows, columns):
    return [[int(a == b) for b in columns] for a in rows]


def within(labels):
    return [[None if i == j else int(a == b) for j, b in enumerate(labels)] for i, a in enumerate(labels)]


def across(domains, classes):
    n = len(domains)
    apart = lambda i, j: i == j or (classes is not None and classes[i] != classes[j])
    return [[None if apart(i, j) else int(domains[i] != domains[j]) for j in range(n)] for i in range(n)]


CASES = [
    ({"pairs": "diagonal"}, SQUARE, diagonal(4), 1.0, 0.0, None),
    ({"pairs": "diagonal"}, SQUARE, diagonal(4), 40.0, -10.0, None),
    ({"pairs": "targets", "targets": [4, -100, 1]}, WIDE, targets([4, -100, 1], 5), 3.0, 0.5, [-1.0, -2.5, -0.25, -4.0, -1.5]),
    ({"pairs": "labels", "rows": [1, 2, 1], "columns": [1, 1, 2, 3, 2]}, WIDE, labels([1, 2, 1], [1, 1, 2, 3, 2]), 10.0, 0.0, None),
    ({"pairs": "within", "labels": [5, 6, 5, 7]}, SQUARE, within([5, 6, 5, 7]), 14.0, 0.0, None),
    ({"pairs": "across", "domains": [0, 0, 1, 2]}, SQUARE, across([0, 0, 1, 2], None), 5.0, 0.0, None),
    ({"pairs": "across", "domains": [0, 1, 1, 2], "classes": [3, 3, 3, 4]}, SQUARE, across([0, 1, 1, 2], [3, 3, 3, 4]), 5.0, 0.0, None),
]


def gradient(f, values):
    h = mpf(10) ** -30
    out = []
    for k in range(len(values)):
        at = lambda by: f(values[:k] + [values[k] + by] + values[k + 1:])
        out.append((8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h))
    return out


def text(x):
    """25 significant digits; what is left of a difference that vanishes is 0."""
    return "0.0" if abs(x) < mpf(10) ** -60 else nstr(x, 25, min_fixed=0, max_fixed=0)


def case(name, parameters, about, similarities, relations, scale, bias, log_q):
    formula, p = OBJECTIVES[name][0], [f32(x) for x in parameters]
    rows, columns = len(similarities), len(similarities[0])
    q = [mpf(x) for x in log_q] if log_q else [mpf(0)] * columns

    def loss(values):
        *s, scale, bias = values
        z = [[scale * s[i * columns + j] + bias - q[j] for j in range(columns)] for i in range(rows)]
        return formula(p, z, relations)

    values = [mpf(x) for row in similarities for x in row] + [mpf(scale), mpf(bias)]
    try:
        value = loss(values)
        *dsimilarities, d_scale, d_bias = gradient(loss, values)
    except (ZeroDivisionError, TypeError, ValueError):
        return None
    if mp.im(value) != 0:
        return None
    return {
        "objective": name, "parameters": list(parameters), **about,
        "shape": [rows, columns], "similarities": [x for row in similarities for x in row],
        "scale": scale, "bias": bias, "log_q": log_q,
        "loss": text(value), "dsimilarities": [text(x) for x in dsimilarities],
        "d_scale": text(d_scale), "d_bias": text(d_bias),
    }


# --- the whole: embeddings in, their gradient out -------------------------------------------------------------------

A = [[1.0, -0.5, 0.25], [0.5, 2.0, -1.0], [-0.75, 0.125, 1.5], [0.0, 1.0, 0.5]]
B = [[0.75, -0.25, 0.5], [0.25, 1.5, -1.25], [-1.0, 0.5, 0.875], [0.5, 0.75, -0.125]]


def units(x):
    return [[v / sqrt(sum(w * w for w in row)) for v in row] for row in x]


def standardised(x, eps):
    columns = []
    for column in transposed(x):
        m = mean(column)
        variance = mean((v - m) ** 2 for v in column)
        columns.append([(v - m) / sqrt(variance + eps) for v in column])
    return transposed(columns)


def whole(name, parameters, way, eps=None):
    formula, p = OBJECTIVES[name][0], [f32(x) for x in parameters]
    n, dim = len(A), len(A[0])

    def loss(values):
        a = [values[i * dim:(i + 1) * dim] for i in range(n)]
        b = [values[(n + i) * dim:(n + i + 1) * dim] for i in range(n)]
        if way == "cosine":
            a, b = units(a), units(b)
            z = [[10 * sum(x * y for x, y in zip(u, v)) for v in b] for u in a]
            return formula(p, z, diagonal(n))
        if way == "correlation":
            a, b = standardised(a, mpf(eps)), standardised(b, mpf(eps))
            z = [[sum(a[i][k] * b[i][l] for i in range(n)) / n for l in range(dim)] for k in range(dim)]
            return formula(p, z, diagonal(dim))
        m = [mean(column) for column in transposed(a)]
        c = [[x - y for x, y in zip(row, m)] for row in a]
        z = [[sum(c[i][k] * c[i][l] for i in range(n)) / (n - 1) for l in range(dim)] for k in range(dim)]
        return formula(p, z, diagonal(dim))

    values = [mpf(x) for row in A + B for x in row]
    d = gradient(loss, values)
    return {
        "objective": name, "parameters": list(parameters), "way": way, "eps": eps, "dim": dim,
        "a": [x for row in A for x in row], "b": [x for row in B for x in row],
        "loss": text(loss(values)), "da": [text(x) for x in d[:n * dim]], "db": [text(x) for x in d[n * dim:]],
    }


def main():
    matrices = [
        case(name, parameters, *inputs)
        for name, (_, settings) in OBJECTIVES.items() for parameters in settings for inputs in CASES
    ]
    matrices = [entry for entry in matrices if entry]
    wholes = [
        whole("info_nce", (), "cosine"),
        whole("clip", (), "cosine"),
        whole("sig_lip", (), "cosine"),
        whole("barlow_twins", (0.0051,), "correlation", 1e-5),
        whole("barlow_twins", (1.0,), "correlation", 0.0),
        whole("vic_reg", (25.0, 1.0, 1.0, 1e-4), "covariance"),
    ]
    about = {
        "what": "Losses of the objectives of embeddings and their gradients: of matrices, and of embeddings.",
        "how": "core/golden/embedding.py, mpmath with 120 digits; gradients are differences of the formulas.",
        "numbers": "inputs are exact f64; results are decimal text of 25 digits",
        "cosine": "scale 10 and the diagonal",
    }
    lines = lambda entries: ",\n  ".join(json.dumps(entry) for entry in entries)
    path = pathlib.Path(__file__).with_name("embedding.json")
    path.write_text(
        f'{{\n "about": {json.dumps(about, indent=2)},\n "matrices": [\n  {lines(matrices)}\n ],\n'
        f' "wholes": [\n  {lines(wholes)}\n ]\n}}\n'
    )
    print(f"{path}: {len(matrices)} matrices, {len(wholes)} wholes")


if __name__ == "__main__":
    main()
