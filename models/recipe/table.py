"""A table of measures: what `make measures` runs for each model, an object a line, three a file."""

import json
import pathlib
import sys

COLUMNS = ["model", "bytes", "perplexity", "tales, bits a byte", "commands", "corrections", "F0.5", "questions",
           "translations", "pairs", "tokens/s"]


def row(path):
    texts, tales, speed = map(json.loads, path.read_text().splitlines())
    kinds = texts["answers"]["kinds"]
    exact = [f"{100 * kinds[kind]['exact']:.1f} %" for kind in ("home", "grammar", "questions", "chinese")]
    return [
        path.stem,
        f"{texts['file_bytes']:,}",
        f"{texts['perplexity']:.3f}",
        f"{tales['bits_per_byte']:.3f}",
        *exact[:2],
        f"{kinds['grammar']['edits']['f_half']:.3f}",
        *exact[2:],
        f"{100 * texts['minimal_pairs']['accuracy']:.1f} %",
        f"{speed['generation_tokens_per_second']['median']:.0f}",
    ]


print("| " + " | ".join(COLUMNS) + " |")
print("|" + "---|" * len(COLUMNS))
for name in sys.argv[1:]:
    print("| " + " | ".join(row(pathlib.Path(name))) + " |")
