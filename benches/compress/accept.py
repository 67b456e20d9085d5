"""What compression has to reach on a small model, measured by the program itself.

    python accept.py MODEL.gguf [--attar PATH] [--seeds 3] [--tokens 1.1M] [--out report.md]

MODEL is the teacher; everything learns from its own samples. For each seed: the vocabulary trimmed, a quarter of the neurons
cut and taught again, the same shape taught from nothing, the same taught by labels, and a file of 180 and of 150 KB.
Needs Python 3; takes about an hour for 260 thousand weights on two cores. The exit status is 1 if a line is missed.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

HELD_OUT = "20k"


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder = args, pathlib.Path(folder)

    def attar(self, *words):
        return json.loads(self.run(*words, "--json").splitlines()[-1])

    def run(self, *words):
        run = subprocess.run([self.args.attar, *map(str, words)], capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"attar {' '.join(map(str, words))}: {run.stderr}")
        return run.stdout

    def sample(self, seed):
        out = self.folder / f"{seed}.ids"
        if not out.exists():
            self.run("sample", self.args.model, "-o", out, "--tokens", self.args.tokens, "--seq-len", 192, "--seed", seed)
        return out

    def prune(self, seed, name, *cuts, tokens="20k"):
        out = self.folder / name
        self.attar("prune", self.args.model, "-o", out, "--data", self.sample(seed), "--tokens", tokens, *cuts)
        return out

    def distill(self, seed, student, tokens, *how):
        out = self.folder / "student.gguf"
        report = self.attar("distill", student, "--teacher", self.args.model, "--data", self.sample(seed),
                            "--train-tokens", tokens, "--seed", seed, "--held-out", HELD_OUT, "-o", out, *how)
        return report["before"], report["after"]

    def trimming(self, seed):
        """How the perplexity changes on other text that both can say, against all the tokens there were."""
        model, small = self.args.model, self.prune(seed, "vocab.gguf", "--vocab", "used", tokens="300k")
        used = set(" ".join(self.sample(seed).read_text().splitlines()[:300_000 // 192]).split())
        other, both = self.folder / "other.ids", self.folder / "both.ids"
        self.run("sample", model, "-o", other, "--tokens", "20k", "--seq-len", 192, "--seed", 2000 + seed)
        lines = [line for line in other.read_text().splitlines() if used.issuperset(line.split())]
        both.write_text("\n".join(lines) + "\n")
        trimmed = self.attar("eval", small, "--reference", model, "--data", both)
        whole = self.attar("eval", model, "--data", both)
        assert trimmed["tokens"] == whole["tokens"] > 15_000
        return abs(trimmed["perplexity"] - whole["perplexity"])


def run(bench, seed):
    full = bench.args.tokens
    shift = bench.trimming(seed)
    cut = bench.prune(seed, "cut.gguf", "--ffn", 128)
    before, short = bench.distill(seed, cut, "100k")
    _, long = bench.distill(seed, cut, full)
    _, scratch = bench.distill(seed, cut, full, "--scratch", "--rate", 4e-3)
    _, labels = bench.distill(seed, cut, full, "--loss", "text")
    small = bench.prune(seed, "small.gguf", "--ffn", 128, "--vocab", "used", tokens="300k")
    _, at180 = bench.distill(seed, small, full, "--target-size", "180k")
    _, at150 = bench.distill(seed, small, full, "--target-size", "150k")
    return {
        "vocabulary trimmed: change of perplexity": (shift, 1e-4, -1),
        "KL falls after 0.1 M tokens by a factor of": (before["kl"] / short["kl"], 3, 1),
        "and after all tokens": (before["kl"] / long["kl"], 8, 1),
        "perplexity over the teacher's": (long["perplexity"] / long["teacher_perplexity"], 1.10, -1),
        "KL of the same shape from scratch over it": (scratch["kl"] / long["kl"], 5, 1),
        "KL by labels over it": (labels["kl"] / long["kl"], 1 / 0.9, 1),
        "KL at 180 KB": (at180["kl"], 0.12, -1),
        "bytes": (at180["file_bytes"], 180_000, -1),
        "KL at 150 KB (goal)": (at150["kl"], 0.12, -1),
        "bytes (goal)": (at150["file_bytes"], 150_000, -1),
    }


def main():
    args = argparse.ArgumentParser()
    args.add_argument("model")
    args.add_argument("--attar", default="target/release/attar")
    args.add_argument("--seeds", type=int, default=3)
    args.add_argument("--tokens", default="1.1M")
    args.add_argument("--out")
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, folder)
        runs = []
        for seed in range(1, args.seeds + 1):
            runs.append(run(bench, seed))
            print(f"seed {seed}: {({name: round(value, 5) for name, (value, *_) in runs[-1].items()})}", flush=True)
    lines = ["| | " + " | ".join(f"seed {i + 1}" for i in range(len(runs))) + " | median | wanted |", "|---|" + "---|" * (len(runs) + 2)]
    missed = 0
    for name, (_, wanted, sign) in runs[0].items():
        values = [run[name][0] for run in runs]
        missed += any((value - wanted) * sign < 0 for value in values) and "goal" not in name
        show = lambda x: f"{x:,.0f}" if x > 1000 else f"{x:.4g}"
        cells = [show(x) for x in (*values, statistics.median(values))]
        lines.append(f"| {name} | {' | '.join(cells)} | {'at least' if sign > 0 else 'at most'} {show(wanted)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        pathlib.Path(args.out).write_text(text)
    raise SystemExit(1 if missed else 0)


main()
