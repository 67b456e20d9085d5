"""Attar and llama.cpp in turn on the same files, in one run.

    pip install llama-cpp-python          # builds llama.cpp from source, some ten minutes
    cargo build --release
    target/release/attar random -o q8_0.gguf --type q8_0      # 1.1 billion random weights
    python benches/peers/compare.py q8_0.gguf --threads 2

Each round runs Attar, then llama.cpp with its weights repacked and not, with its flash attention and without; so
a noisy machine disturbs all alike. Printed are medians over the rounds, and Attar's ratio to the best of llama.cpp's
variants. Generation is also given as a share of the read roof that `attar bench` measures in the same round.

On a graphics device, `--device gpu` or `gpu:N` of `attar devices`, with all layers of both programs there:

    CMAKE_ARGS=-DGGML_VULKAN=on pip install --force-reinstall --no-cache-dir llama-cpp-python    # or -DGGML_CUDA=on
    python benches/peers/compare.py q8_0.gguf --device gpu

llama.cpp takes its first device then, and repacks nothing.
"""

import argparse
import ctypes
import itertools
import json
import pathlib
import statistics
import subprocess
import time

import llama_cpp

ROOT = pathlib.Path(__file__).parents[2]


class LlamaCpp:
    """A model and a context of llama.cpp, timed call by call."""

    def __init__(self, path, threads, context, on_gpu, repack, flash):
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 99 if on_gpu else 0
        params.split_mode = llama_cpp.LLAMA_SPLIT_MODE_NONE  # one device
        params.use_extra_bufts = repack
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = 1 if flash else 0
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def feed(self, ids):
        array = (llama_cpp.llama_token * len(ids))(*ids)
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(ids))) != 0:
            raise SystemExit("llama.cpp failed to decode")
        llama_cpp.llama_synchronize(self.context)

    def run(self, prompt_len, gen_len):
        """Prompt and generation tokens a second, from an empty context."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        start = time.perf_counter()
        self.feed([(i * 7919 + 13) % self.vocab for i in range(prompt_len)])
        middle = time.perf_counter()
        for i in range(gen_len):
            self.feed([(i * 31 + 7) % self.vocab])
        end = time.perf_counter()
        return prompt_len / (middle - start), gen_len / (end - middle)

    def close(self):
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def attar(path, args):
    command = [args.attar, "bench", path, "--rounds", "1", "--json", "--device", args.device,
               "--threads", str(args.threads), "--prompt-len", str(args.prompt_len), "--gen-len", str(args.gen_len)]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return (report["prompt_tokens_per_second"]["median"], report["generation_tokens_per_second"]["median"],
            report["bandwidth_share"])


def llama(path, args, repack, flash):
    peer = LlamaCpp(path, args.threads, args.prompt_len + args.gen_len, args.device != "cpu", repack, flash)
    peer.run(args.prompt_len, args.gen_len)  # as Attar's first round, not counted
    prompt, generation = peer.run(args.prompt_len, args.gen_len)
    peer.close()
    return prompt, generation


def compare(path, args):
    repacks = (True, False) if args.device == "cpu" else (False,)
    ours, peers = [], {variant: [] for variant in itertools.product(repacks, (True, False))}
    for _ in range(args.rounds):
        ours.append(attar(path, args))
        for (repack, flash), results in peers.items():
            results.append(llama(path, args, repack, flash))
    median = lambda rows, i: statistics.median(row[i] for row in rows)
    print(f"{pathlib.Path(path).name}, {args.device}, {args.threads} threads, {args.rounds} rounds, "
          f"prompt {args.prompt_len}, generation {args.gen_len}: tokens/s")
    roof = f"  ({median(ours, 2):.1%} of the read roof)" if args.device == "cpu" else ""
    print(f"  attar                         prompt {median(ours, 0):8.1f}  generation {median(ours, 1):7.2f}{roof}")
    for (repack, flash), results in peers.items():
        name = f"llama.cpp repack {'on ' if repack else 'off'} flash {'on ' if flash else 'off'}"
        print(f"  {name:<29} prompt {median(results, 0):8.1f}  generation {median(results, 1):7.2f}")
    for i, what in enumerate(("prompt", "generation")):
        best = max(median(results, i) for results in peers.values())
        print(f"  {what}: {median(ours, i) / best:.2f} times the best of llama.cpp")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--device", default="cpu", help="cpu, gpu or gpu:N of `attar devices`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt-len", type=int, default=512)
    parser.add_argument("--gen-len", type=int, default=32)
    parser.add_argument("--attar", default=str(ROOT / "target/release/attar"))
    args = parser.parse_args()
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    if args.device != "cpu" and not llama_cpp.llama_supports_gpu_offload():
        raise SystemExit("this llama-cpp-python was built without a graphics device")
    for path in args.models:
        compare(path, args)


if __name__ == "__main__":
    main()
