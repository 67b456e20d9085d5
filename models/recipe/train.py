"""Trains the bundled model: stories, vocabulary, network; leaves a checkpoint for `export.py`.

    python train.py --work DIRECTORY

The run is seeded and uses one thread. The vocabulary is trained first, then the network, with Adam (Kingma and Ba,
2014), a linear warm-up and a cosine decay. A run that is started again on the same directory continues from its
last checkpoint.
"""

import argparse
import math
import os
import pickle
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
import numpy as np
import sentencepiece

import stories
from model import Shape, initial_weights, surprise

TRAINING_SEED = 1
BATCH = 8
STORIES = 60000


def train_vocabulary(path, texts, size):
    """Trains byte-pair pieces with a fall-back to bytes, and splits every digit; the file is what llama calls SPM."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(path.with_suffix("")), vocab_size=size, model_type="bpe",
        byte_fallback=True, character_coverage=1.0, normalization_rule_name="identity", add_dummy_prefix=True,
        remove_extra_whitespaces=False, split_digits=True, num_threads=1, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        minloglevel=1)


def rows_of_tokens(vocabulary, texts, length):
    """Cuts stories into rows. Each row begins with a whole story, as a prompt would, and the last one is cut."""
    row, rows = [], []
    for text in texts:
        row += [vocabulary.bos_id(), *vocabulary.encode(text), vocabulary.eos_id()]
        if len(row) >= length:
            rows.append(row[:length])
            row = []
    return np.array(rows, np.int32)


def rate_at(step, steps, peak, warm_up=100):
    """The learning rate of a step: it rises in a line and falls along a cosine to a twentieth."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * (0.05 + 0.475 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up))))


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2, 3))
def adam_step(shape, weights, mean, square, rows, step, rate):
    """One step of Adam with decoupled weight decay on matrices, after clipping the gradient's length to 1."""
    loss, gradient = jax.value_and_grad(lambda trial: surprise(shape, trial, rows).mean())(weights)
    length = jnp.sqrt(sum(jnp.sum(part * part) for part in jax.tree.leaves(gradient)))
    gradient = jax.tree.map(lambda part: part / jnp.maximum(length, 1.0), gradient)
    mean = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, mean, gradient)
    square = jax.tree.map(lambda old, new: 0.98 * old + 0.02 * new * new, square, gradient)

    def moved(weight, first, second):
        first, second = first / (1 - 0.9**step), second / (1 - 0.98**step)
        return weight - rate * (first / (jnp.sqrt(second) + 1e-8) + 0.05 * weight * (weight.ndim > 1))

    return jax.tree.map(moved, weights, mean, square), mean, square, loss


def save(path, **parts):
    """Writes a checkpoint under another name first, so that a stopped run never leaves half of one."""
    partial_path = path.with_suffix(".part")
    partial_path.write_bytes(pickle.dumps(jax.tree.map(np.asarray, parts)))
    partial_path.replace(path)


def train(work, steps, peak, count):
    """Runs or continues the training in one directory."""
    shape = Shape()
    texts = stories.stories(TRAINING_SEED, count)
    vocabulary_path = work / "vocabulary.model"
    if not vocabulary_path.exists():
        train_vocabulary(vocabulary_path, texts[:20000], shape.vocabulary)
    vocabulary = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary_path))
    rows = rows_of_tokens(vocabulary, texts, shape.context + 1)
    weights, done, checkpoint = initial_weights(shape, TRAINING_SEED), 0, work / "checkpoint.pickle"
    mean, square = (jax.tree.map(jnp.zeros_like, weights) for _ in range(2))
    if checkpoint.exists():
        weights, mean, square, done = (pickle.loads(checkpoint.read_bytes())[name]
                                       for name in ("weights", "mean", "square", "step"))
    size = sum(part.size for part in jax.tree.leaves(weights))
    print(f"{len(texts)} stories, {len(rows)} rows, {size} weights", flush=True)
    order = np.random.default_rng(TRAINING_SEED)
    passes = math.ceil(steps * BATCH / len(rows))
    order = np.concatenate([order.permutation(len(rows)) for _ in range(passes)])
    began, losses = time.time(), []
    for step in range(int(done), steps):
        batch = jnp.asarray(rows[order[step * BATCH:(step + 1) * BATCH]])
        weights, mean, square, loss = adam_step(shape, weights, mean, square, batch, step + 1.0,
                                                rate_at(step, steps, peak))
        losses.append(float(loss))
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} loss {np.mean(losses[-50:]):.4f} seconds {time.time() - began:.0f}", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == steps:
            save(checkpoint, weights=weights, mean=mean, square=square, step=step + 1)


def main():
    """Reads the command line."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--work", type=Path, required=True, help="directory of the vocabulary and the checkpoints")
    reader.add_argument("--steps", type=int, default=2600)
    reader.add_argument("--peak", type=float, default=3e-3, help="highest learning rate")
    reader.add_argument("--stories", type=int, default=STORIES)
    choice = reader.parse_args()
    choice.work.mkdir(parents=True, exist_ok=True)
    train(choice.work, choice.steps, choice.peak, choice.stories)


if __name__ == "__main__":
    main()
