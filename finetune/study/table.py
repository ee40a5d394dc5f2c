#!/usr/bin/env python3
"""Makes the tables of docs/continuum.md, between their marks, and its picture from docs/continuum/runs.jsonl.

    pip install numpy matplotlib
    python3 study/table.py
"""

import json
from pathlib import Path

import numpy as np

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
FOLDER = DOCS / "continuum"
OBJECTIVES = ["nll", "power 0.5", "power 1", "power 10", "nll above .2"]
CONDITIONS = ["weak", "intermediate", "strong", "strong, 30 % wrong"]
DRAWS = 2_000  # resampled sets of held-out examples


def read():
    """The runs by condition and objective."""
    runs = [json.loads(line) for line in (FOLDER / "runs.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        found.setdefault((run["condition"], run["objective"]), []).append(run)
    return found


def spread(values, digits=3):
    """Mean, and sample standard deviation where there are seeds enough for one."""
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def p_at(run, which):
    """Mean p of the responses' first, inner or last tokens. The last one ends the turn."""
    part = {"first": slice(0, 1), "inner": slice(1, -1), "last": slice(-1, None)}[which]
    return float(np.exp(np.concatenate([example[part] for example in run["log_p"]])).mean())


def sums(run):
    """Of each held-out example the sum of log p, the sum of p, and the tokens."""
    return np.array([[np.sum(example), np.exp(example).sum(), len(example)] for example in run["log_p"]])


def difference(runs, others, column):
    """The mean over seeds of a per-token mean less that of other runs on the same seeds, and its 95 % interval over
    resampled held-out examples."""
    pairs = [(sums(run), sums(other)) for run in runs for other in others if run["seed"] == other["seed"]]
    draw = np.random.default_rng(0)

    def mean(index):
        return np.mean([(a[index, column].sum() - b[index, column].sum()) / a[index, 2].sum() for a, b in pairs])

    examples = len(pairs[0][0])
    means = [mean(draw.integers(0, examples, examples)) for _ in range(DRAWS)]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{mean(np.arange(examples)):+.3f} [{low:+.3f}, {high:+.3f}]"


def results(found):
    """The first table."""
    head = ["", "n", "mean log p", "mean p", "first", "inner", "last", "exact match", "Jaro-Winkler"]
    lines = []
    for condition in CONDITIONS:
        base = found[condition, "base"]
        lines += [f"**{condition}**", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for objective in ["base", *OBJECTIVES]:
            runs = found.get((condition, objective), [])
            if not runs:
                continue
            cells = [objective, "" if runs is base else str(len(runs))]
            cells += [spread([run[name] for run in runs]) for name in ("mean_log_p", "mean_p")]
            cells += [spread([p_at(run, which) for run in runs]) for which in ("first", "inner", "last")]
            cells += [spread([run[name] for run in runs], 2) for name in ("exact_match", "jaro_winkler")]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return lines[:-1]


def differences(found):
    """The second table."""
    lines = ["| | objective less nll: mean log p | mean p |", "|---|---|---|"]
    for condition in CONDITIONS:
        for objective in OBJECTIVES[1:]:
            runs, others = found.get((condition, objective), []), found.get((condition, "nll"), [])
            if runs and others:
                cells = [difference(runs, others, column) for column in (0, 1)]
                lines.append(f"| {condition}: {objective} | {cells[0]} | {cells[1]} |")
    return lines


def put(text, mark, lines):
    """The text with these lines between the marks of this name."""
    begin, end = f"<!-- {mark}: made by finetune/study/table.py -->", f"<!-- end of {mark} -->"
    before, rest = text.split(begin)
    return before + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end)[1]


def answered(run):
    """What the greedy answers are worth."""
    return run["jaro_winkler"]


def content(run):
    """Mean p of what a response says: of its tokens but the last, which ends the turn."""
    return float(np.exp(np.concatenate([example[:-1] for example in run["log_p"]])).mean())


def draw(found, path):
    """A panel for each condition, in which each objective's bar goes from the base model to what came of it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = ["#000000", "#56b4e9", "#0072b2", "#d55e00", "#009e73"]
    names = {"power 1": "power 1 (−p)"}
    titles = {"strong": "strong, clean labels", "strong, 30 % wrong": "strong, 30 % wrong labels"}
    rows = [(answered, "greedy answers:\nJaro-Winkler to the right ones"),
            (content, "right tokens:\nmean p, end of turn left out")]
    shown = [condition for condition in CONDITIONS if any((condition, name) in found for name in OBJECTIVES)]
    size = (3.1 * len(shown) + 1, 6.4)
    figure, grid = plt.subplots(len(rows), len(shown), figsize=size, sharey=True, layout="constrained")
    for axes, (measure, label) in zip(grid, rows):
        for axis, condition in zip(axes, shown):
            base = measure(found[condition, "base"][0])
            ends = {name: [measure(run) for run in found.get((condition, name), [])] for name in OBJECTIVES}
            every = [base, *(value for values in ends.values() for value in values)]
            low, high = (0, 1) if measure is answered else (min(every), max(every))
            room = max(high - low, 0.12)  # so that hundredths look like hundredths
            high = low + room
            best = max(np.mean(values) for values in ends.values() if values)
            for row, (values, colour) in enumerate(zip(ends.values(), colours)):
                if not values:
                    continue
                mean = np.mean(values)
                axis.barh(row, mean - base, left=base, height=0.6, color=colour)
                axis.plot(values, [row] * len(values), "o", ms=4, mfc="white", mec=colour, mew=1)
                digits = 2 if measure is answered else 3
                axis.text(max([base, *values]) + 0.04 * room, row, f"{mean:.{digits}f}", va="center", fontsize=10,
                          weight="bold" if mean == best else "normal")
            axis.axvline(base, color="0.4", lw=1, ls=(0, (4, 3)))
            axis.set_xlim(low - 0.06 * room, high + (0.08 if measure is answered else 0.3) * room)
            axis.locator_params(axis="x", nbins=4)
            axis.spines[["top", "right", "left"]].set_visible(False)
            axis.tick_params(axis="y", length=0, labelsize=11)
            axis.tick_params(axis="x", colors="0.4")
        axes[0].set_ylabel(label, fontsize=11)
    for axis, condition in zip(grid[0], shown):
        axis.set_title(f"{titles.get(condition, condition)}\n", fontsize=12)
        before = f"mean p of all response tokens before: {found[condition, 'base'][0]['mean_p']:.3f}"
        axis.text(0.5, 1.03, before, transform=axis.transAxes, ha="center", color="0.4", fontsize=9)
    grid[0][0].set_yticks(range(len(OBJECTIVES)), [names.get(name, name) for name in OBJECTIVES])
    grid[0][0].invert_yaxis()
    figure.supxlabel("held-out examples, from the model before (dashed) to after training; a dot is a seed, the best is bold;"
                     " below, each panel has its own scale", fontsize=10, color="0.3")
    figure.savefig(path, dpi=150, metadata={"Software": None})


def main():
    found = read()
    page = DOCS / "continuum.md"
    text = page.read_text(encoding="utf-8")
    text = put(text, "results", results(found))
    text = put(text, "differences", differences(found))
    page.write_text(text, encoding="utf-8")
    draw(found, FOLDER / "study.png")


if __name__ == "__main__":
    main()
