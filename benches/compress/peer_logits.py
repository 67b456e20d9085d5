"""Compares logits of Attar and llama.cpp over files that Attar wrote.

    pip install llama-cpp-python numpy
    python benches/compress/peer_logits.py target/release/attar FILE.gguf...

Both run the same tokens, drawn from the vocabulary with a fixed seed. Weights are the same bits; Attar rounds
256 activations under one scale where llama.cpp rounds 32, so the logits of quantised files differ by that
rounding and those of F32 files hardly at all. It fails where the mean KL divergence between the two is above
0.005 nats.
"""

import pathlib
import subprocess
import sys
import tempfile

import llama_cpp
import numpy as np

TOKENS = 128
KL_MAX = 0.005


def logits_of_llama(path, ids_of):
    model = llama_cpp.Llama(
        str(path), n_ctx=TOKENS, n_batch=TOKENS, logits_all=True, verbose=False, n_threads=1, type_k=0, type_v=0
    )
    ids = ids_of(model.n_vocab())
    model.eval(ids)
    return ids, np.array(model.scores[:TOKENS], dtype=np.float32)


def logits_of_attar(attar, path, ids, folder):
    ids_file, out = folder / "ids.txt", folder / "logits.f32"
    ids_file.write_text("".join(f"{i}\n" for i in ids))
    command = [attar, "logits", path, "--ids-file", ids_file, "--out", out]
    subprocess.run(command, check=True)
    return np.fromfile(out, dtype="<f4").reshape(TOKENS, -1)


def log_softmax(x):
    x = x.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def main():
    attar, files = sys.argv[1], sys.argv[2:]
    random = np.random.default_rng(1)
    bad = 0
    print(f"{'file':32} {'largest difference':>18} {'KL':>10} {'same top':>9}")
    for path in files:
        with tempfile.TemporaryDirectory() as folder:
            draw = lambda count: random.integers(3, count, TOKENS).tolist()
            ids, theirs = logits_of_llama(path, draw)
            ours = logits_of_attar(attar, path, ids, pathlib.Path(folder))
        p, q = log_softmax(theirs), log_softmax(ours)
        kl = (np.exp(p) * (p - q)).sum(axis=1).mean()
        same = (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()
        difference = np.abs(ours - theirs).max()
        print(f"{pathlib.Path(path).name:32} {difference:18.5f} {kl:10.6f} {same:9.3f}")
        bad += not kl <= KL_MAX
    sys.exit(bad > 0)


main()
