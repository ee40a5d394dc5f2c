#!/usr/bin/env python3
"""Writes puzzles of reasoning-gym as lines of {"prompt": .., "response": ..}, split into train and held out.

    pip install reasoning-gym
    python3 export.py figlet_font --train 4000 --held-out 200 --out data/
    python3 export.py figlet_font --train 4000 --held-out 200 --corrupt 0.3 --set min_word_len=2 max_word_len=5 --out data/

Held-out prompts are never among those trained on, and held-out responses are never corrupted. The same arguments give the
same bytes.
"""

import argparse
import json
import random
from pathlib import Path


def setting(text):
    """NAME=VALUE, where VALUE is JSON or else text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def share(text):
    """A number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0 to 1")
    return number


def corrupt(pairs, part, seed):
    """Gives so many of the pairs the response of another pair that has a different one."""
    draw = random.Random(seed)
    responses = [pair["response"] for pair in pairs]
    if part > 0 and len(set(responses)) < 2:
        raise SystemExit("error: all responses are the same, so that none can be corrupted")
    for index in draw.sample(range(len(pairs)), round(part * len(pairs))):
        other = responses[index]
        while other == responses[index]:
            other = draw.choice(responses)
        pairs[index] = {**pairs[index], "response": other, "corrupted": True}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="a data set of reasoning-gym, such as figlet_font")
    parser.add_argument("--train", type=int, default=4000, metavar="N", help="examples to train on")
    parser.add_argument("--held-out", type=int, default=200, metavar="N", help="examples to evaluate on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corrupt", type=share, default=0.0, metavar="SHARE", help="share of wrong training responses")
    parser.add_argument("--set", nargs="*", type=setting, default=[], metavar="NAME=VALUE", help="settings of the task")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.train < 1 or arguments.held_out < 1:
        parser.error(f"--train is {arguments.train} and --held-out {arguments.held_out}: each is at least 1")

    import reasoning_gym

    wanted = arguments.train + arguments.held_out
    # Small tasks repeat themselves: twice as many are drawn, and the first of each kind is kept.
    puzzles = reasoning_gym.create_dataset(arguments.task, size=2 * wanted, seed=arguments.seed, **dict(arguments.set))
    pairs = {}
    for puzzle in puzzles:
        if puzzle["answer"] is not None:
            pairs.setdefault(puzzle["question"], str(puzzle["answer"]))
    pairs = [{"prompt": prompt, "response": response} for prompt, response in pairs.items()]
    if len(pairs) < wanted:
        raise SystemExit(f"error: {arguments.task} has {len(pairs)} different examples, but {wanted} were asked for")
    held_out, train = pairs[: arguments.held_out], pairs[arguments.held_out : wanted]
    corrupt(train, arguments.corrupt, arguments.seed)

    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", train), ("held-out", held_out)):
        path = arguments.out / f"{arguments.task}-{name}.jsonl"
        path.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in part), encoding="utf-8")
        print(f"{path}: {len(part)} examples, {sum('corrupted' in pair for pair in part)} corrupted")


if __name__ == "__main__":
    main()
