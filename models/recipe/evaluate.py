"""Measures a written file on stories that it was not trained on.

    python evaluate.py --work DIRECTORY --model ../attar-stories.gguf

It prints the perplexity per token (the end of each story counts as one) and the bits per byte of text, over texts of
another seed, without those that the training texts also hold.
"""

import argparse
import math
import os
from functools import partial
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import numpy as np
import sentencepiece

import stories
from export import read_weights
from model import Shape, surprise
from train import STORIES, TRAINING_SEED

HELD_OUT_SEED = 2
BATCH = 16


@partial(jax.jit, static_argnums=0)
def total_surprise(shape, weights, rows, counted):
    """The summed negative log-likelihood of the tokens that count."""
    return (surprise(shape, weights, rows) * counted).sum()


def main():
    """Reads the command line and prints the measures."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--work", type=Path, required=True, help="directory of the vocabulary")
    reader.add_argument("--model", type=Path, required=True)
    reader.add_argument("--count", type=int, default=1000)
    choice = reader.parse_args()
    shape = Shape()
    vocabulary = sentencepiece.SentencePieceProcessor(model_file=str(choice.work / "vocabulary.model"))
    weights = read_weights(choice.model, shape)
    known = set(stories.stories(TRAINING_SEED, STORIES))
    texts = [text for text in stories.stories(HELD_OUT_SEED, choice.count) if text not in known]
    rows = np.zeros((-(-len(texts) // BATCH) * BATCH, shape.context + 1), np.int32)
    counted = np.zeros((len(rows), shape.context), np.float32)
    for index, text in enumerate(texts):
        tokens = [vocabulary.bos_id(), *vocabulary.encode(text), vocabulary.eos_id()][: shape.context + 1]
        rows[index, : len(tokens)] = tokens
        counted[index, : len(tokens) - 1] = 1
    total = sum(float(total_surprise(shape, weights, rows[at:at + BATCH], counted[at:at + BATCH]))
                for at in range(0, len(rows), BATCH))
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(texts)} texts, {int(counted.sum())} tokens, {size} bytes")
    print(f"perplexity {math.exp(total / counted.sum()):.3f} per token, {total / math.log(2) / size:.4f} bits per byte")


if __name__ == "__main__":
    main()
