#!/usr/bin/env python3
"""The runs of docs/continuum.md: every condition under every objective, seed after seed.

    cargo build --release                                   # in finetune/
    pip install reasoning-gym
    python3 study/run.py --model SmolLM2-135M-Instruct.Q4_1.gguf --work /tmp/continuum --seeds 1 2 3

Each run is a line of docs/continuum/runs.jsonl; one that is there is not done again, so that a study that was stopped goes
on, and seeds can be added. --work holds the data, and the weights of one run at a time.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

FINETUNE = Path(__file__).resolve().parent.parent
REPOSITORY = FINETUNE.parent
sys.path.insert(0, str(FINETUNE / "data"))
from export import corrupt  # noqa: E402

OBJECTIVES = {
    "nll": "nll",
    "power 0.5": "power:alpha=0.5",
    "power 1": "power:alpha=1",
    "power 10": "power:alpha=10",
    "nll above .2": "thresholded:inner=nll,lo=0.2",
}

# Of each condition the task of reasoning-gym, its settings, the share of training responses that are wrong, and the most
# tokens of a greedy answer.
FIGLET = ("figlet_font", ["min_word_len=2", "max_word_len=5", "static_font=mini", "space_letters=false"])
SENTENCE = ("sentence_reordering", ["max_words_in_sentence=8"])
NUMBERS = ("number_filtering", ["min_numbers=4", "max_numbers=4", "min_decimals=4"])
CONDITIONS = {
    "weak": (*FIGLET, 0.0, 5),
    "intermediate": (*SENTENCE, 0.0, 16),
    "strong": (*NUMBERS, 0.0, 40),
    "strong, 30 % wrong": (*NUMBERS, 0.3, 40),
}

POOL = 320  # examples from which a seed draws those that it trains on
TRAINED_ON = 64
HELD_OUT = 32
ANSWERED = 12  # held-out examples that are answered greedily: answers cost most of an evaluation
BATCH = 8
EPOCHS = 3


def data(work, task, settings):
    """The held-out examples' file, and the pairs to draw from."""
    folder = work / task
    if not folder.exists():
        export = [sys.executable, FINETUNE / "data" / "export.py", task, "--train", str(POOL)]
        subprocess.run([*export, "--held-out", str(HELD_OUT), "--set", *settings, "--out", folder], check=True)
    pool = (folder / f"{task}-train.jsonl").read_text(encoding="utf-8").splitlines()
    return folder / f"{task}-held-out.jsonl", [json.loads(line) for line in pool]


def judge(program, model, held_out, answer, work):
    """What a model makes of the held-out examples: log p of each response token, and some greedy answers."""
    answers = work / "answers.jsonl"

    def lines(*more):
        command = [program, "eval", "--model", model, "--data", held_out, "--answers", answers, *more]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        return json.loads(found.stdout), [json.loads(line) for line in answers.read_text("utf-8").splitlines()]

    probable, examples = lines("--answer", "0")
    greedy, answered = lines("--answer", str(answer), "--limit", str(ANSWERED))
    return {
        "mean_log_p": probable["mean_log_p"],
        "mean_p": probable["mean_p"],
        "exact_match": greedy["exact_match"],
        "jaro_winkler": greedy["jaro_winkler"],
        "log_p": [[round(log_p, 4) for log_p in example["log_p"]] for example in examples],
        "answers": [example["answer"] for example in answered],
    }


def train(arguments, pairs, spec, seed):
    """Trains, and gives the folder of the model and the metrics of its steps."""
    examples, out = arguments.work / "train.jsonl", arguments.work / "model"
    examples.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    command = [arguments.program, "train", "--model", arguments.model, "--data", examples, "--objective", spec]
    command += ["--train", f"last:{arguments.blocks}", "--learning-rate", str(arguments.learning_rate)]
    command += ["--batch", str(BATCH), "--micro", str(BATCH), "--steps", str(EPOCHS * TRAINED_ON // BATCH)]
    command += ["--checkpoint", "0", "--seed", str(seed), "--out", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    kept = ("loss", "mean_p", "live", "valid", "gradient_norm")
    return out, {name: [float(f"{step[name]:.5g}") for step in steps] for name in kept}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="SEED")
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS), choices=CONDITIONS, metavar="CONDITION")
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=OBJECTIVES, metavar="OBJECTIVE")
    parser.add_argument("--learning-rate", type=float, default=2e-4, metavar="RATE")
    parser.add_argument("--blocks", type=int, default=4, help="the last blocks, so many of them, are trained")
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "docs" / "continuum" / "runs.jsonl", metavar="FILE")
    program = REPOSITORY / "adapters" / "target" / "release" / "tokenloss-finetune"
    parser.add_argument("--program", type=Path, default=program)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.runs.parent.mkdir(parents=True, exist_ok=True)

    def key(run):
        return run["condition"], run["objective"], run["seed"], run["learning_rate"]

    lines = arguments.runs.read_text(encoding="utf-8").splitlines() if arguments.runs.exists() else []
    done = {key(json.loads(line)) for line in lines}
    rate = arguments.learning_rate
    wanted = [{"condition": name, "objective": "base", "seed": 0, "learning_rate": 0.0} for name in arguments.conditions]
    for seed in arguments.seeds:
        for name in arguments.conditions:
            for objective in arguments.objectives:
                wanted.append({"condition": name, "objective": objective, "seed": seed, "learning_rate": rate})

    for run in wanted:
        if key(run) in done:
            continue
        since = time.monotonic()
        task, settings, wrong, answer = CONDITIONS[run["condition"]]
        held_out, pool = data(arguments.work, task, settings)
        if run["objective"] == "base":
            model = arguments.model
        else:
            pairs = random.Random(run["seed"]).sample(pool, TRAINED_ON)
            corrupt(pairs, wrong, run["seed"])
            model, steps = train(arguments, pairs, OBJECTIVES[run["objective"]], run["seed"])
            run["steps"] = steps
        run |= judge(arguments.program, model, held_out, answer, arguments.work)
        run["seconds"] = round(time.monotonic() - since, 1)
        with arguments.runs.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run, ensure_ascii=False) + "\n")
        shutil.rmtree(arguments.work / "model", ignore_errors=True)
        print(*key(run), f"mean p {run['mean_p']:.4f}, mean log p {run['mean_log_p']:.4f},",
              f"Jaro-Winkler {run['jaro_winkler']:.3f}, {run['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
