"""A training step of Attar beside one of PyTorch: same shape, same batch, same threads, turn by turn.

    python step.py [--rounds N] [--threads N]      needs torch; builds the bench by itself

Prints tokens a second of both (median over the rounds) and their ratio. PyTorch runs eagerly in f32 with its own fused
AdamW, cross-entropy, attention and RMS norm: what a careful user writes.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time

import torch
from torch import nn
from torch.nn import functional as F

ROOT = pathlib.Path(__file__).parents[2]
VOCAB, WIDTH, LAYERS, HEADS, KV_HEADS, FEED, BATCH, TOKENS = 1024, 128, 8, 8, 4, 320, 16, 256


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        head = WIDTH // HEADS
        self.norm, self.feed_norm = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.q, self.k, self.v = (nn.Linear(WIDTH, n * head, bias=False) for n in (HEADS, KV_HEADS, KV_HEADS))
        self.o = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate, self.up = nn.Linear(WIDTH, FEED, bias=False), nn.Linear(WIDTH, FEED, bias=False)
        self.down = nn.Linear(FEED, WIDTH, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        h = self.norm(x)
        q, k, v = (f(h).view(b, t, n, -1).transpose(1, 2) for f, n in ((self.q, HEADS), (self.k, KV_HEADS), (self.v, KV_HEADS)))
        turn = lambda y: torch.cat([y[..., ::2] * cos - y[..., 1::2] * sin, y[..., ::2] * sin + y[..., 1::2] * cos], -1)
        y = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, WIDTH))
        h = self.feed_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm, self.head = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids):
        head = WIDTH // HEADS
        angle = torch.outer(torch.arange(ids.shape[1]), 10000.0 ** (-torch.arange(0, head, 2) / head))
        x = self.table(ids)
        for layer in self.layers:
            x = layer(x, angle.cos(), angle.sin())
        return self.head(self.norm(x))


def torch_rate(step, steps):
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return BATCH * TOKENS / statistics.median(times)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--threads", type=int, default=2)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    ids = torch.randint(VOCAB, (BATCH, TOKENS + 1))

    def step():
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step()
    bench = ["cargo", "bench", "-q", "--bench", "train", "--no-default-features", "--features", "train", "--",
             "--threads", str(args.threads)]
    subprocess.run(bench + ["--steps", "1"], cwd=ROOT, check=True, capture_output=True)
    ours, theirs = [], []
    for _ in range(args.rounds):
        out = subprocess.run(bench + ["--steps", "3"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        ours.append(json.loads(out.strip().splitlines()[-1])["tokens_per_s"])
        theirs.append(torch_rate(step, 3))
    weights = sum(p.numel() for p in model.parameters())
    print(f"{weights} weights, {args.threads} threads, {BATCH} texts of {TOKENS} tokens, torch {torch.__version__}")
    print(f"attar  {statistics.median(ours):8.0f} tokens/s  {[round(x) for x in ours]}")
    print(f"torch  {statistics.median(theirs):8.0f} tokens/s  {[round(x) for x in theirs]}")
    print(f"ratio  {statistics.median(a / b for a, b in zip(ours, theirs)):8.2f}")


main()
