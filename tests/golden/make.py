"""Tiny random-weight checkpoints of each family with their logits, by an independent reference.

    python make.py              writes NAME.gguf, NAME.ids and NAME.f32 beside this file, the same bytes each time
    python make.py check FOLDER compares the reference with checkpoints another program gave logits for

Needs Python 3 and numpy. The forward pass below is written from the papers in float64 and shares nothing with
the runtime: RMSNorm (1910.07467), rotary positions (2104.09864), YaRN (2309.00071), grouped attention (2305.13245),
SwiGLU (2002.05202), mixtures of experts as in Mixtral (2401.04088) and Qwen (2407.10671, 2505.09388).
"""

import pathlib
import struct
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
IDS = 24


# ------------------------------------------------------------------------------------------------ GGUF files

def string(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def write_gguf(path, keys, tensors):
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for key, value in keys.items():
        out += string(key)
        if isinstance(value, str):
            out += struct.pack("<I", 8) + string(value)
        elif isinstance(value, float):
            out += struct.pack("<If", 6, value)
        elif isinstance(value, bool):
            out += struct.pack("<IB", 7, value)
        elif isinstance(value, list):
            out += struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
        else:
            out += struct.pack("<II", 4, value)
    offset = 0
    for name, values in tensors.items():
        out += string(name) + struct.pack("<I", values.ndim)
        out += b"".join(struct.pack("<Q", n) for n in reversed(values.shape))
        out += struct.pack("<IQ", 0, offset)
        offset += -(-values.nbytes // 32) * 32
    out += bytes(-len(out) % 32)
    for values in tensors.values():
        out += values.tobytes() + bytes(-values.nbytes % 32)
    path.write_bytes(out)


def read_gguf(path):
    data, at = path.read_bytes(), 8

    def number(code):
        nonlocal at
        at += struct.calcsize("<" + code)
        return struct.unpack_from("<" + code, data, at - struct.calcsize("<" + code))[0]

    def text():
        nonlocal at
        length = number("Q")
        at += length
        return data[at - length:at].decode()

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner = number("I")
            return [value(inner) for _ in range(number("Q"))]
        return number("BbHhIif?xxQqd"[kind])

    tensor_count, key_count = number("Q"), number("Q")
    keys = {}
    for _ in range(key_count):
        key = text()
        keys[key] = value(number("I"))
    table = []
    for _ in range(tensor_count):
        name = text()
        shape = [number("Q") for _ in range(number("I"))]
        assert number("I") == 0, f"{name} is not f32"
        table.append((name, shape[::-1], number("Q")))
    start = -(-at // 32) * 32
    tensors = {}
    for name, shape, offset in table:
        count = int(np.prod(shape))
        tensors[name] = np.frombuffer(data, "<f4", count, start + offset).reshape(shape)
    return keys, tensors


# ------------------------------------------------------------------------------------------------ the reference

class Model:
    """A forward pass over all ids at once, in float64."""

    def __init__(self, keys, tensors):
        self.family = keys["general.architecture"]
        self.keys = keys
        self.tensors = {name: t.astype(np.float64) for name, t in tensors.items()}
        self.width = self.key("embedding_length")
        self.head_len = self.key("attention.key_length") or self.width // self.at("attention.head_count", 0)

    def key(self, name, default=None):
        return self.keys.get(f"{self.family}.{name}") or default  # 0 reads as absent

    def at(self, name, layer):
        """A count that is one for all layers, or one a layer."""
        value = self.key(name)
        return value[layer] if isinstance(value, list) else value

    def tensor(self, name):
        return self.tensors.get(name)

    def linear(self, x, name):
        y = x @ self.tensors[name + ".weight"].T
        scale, bias = self.tensor(name + ".scale"), self.tensor(name + ".bias")
        feed = ".ffn_" in name
        if scale is not None and not feed:
            y = y * scale[0]
        if bias is not None:
            y = y + bias
        if scale is not None and feed and self.scales_feed():
            y = y * scale[0]
        return y

    def scales_feed(self):
        return self.family not in ("qwen2", "qwen2moe")

    def norm(self, x, name):
        eps = self.key("attention.layer_norm_rms_epsilon")
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * self.tensors[name + ".weight"]

    def angles(self, count):
        n = self.key("rope.dimension_count", self.head_len)
        base = self.key("rope.freq_base", 10000.0)
        frequencies = base ** (-np.arange(0, n, 2) / n)
        magnitude = 1.0
        factors = self.tensor("rope_freqs.weight")
        if factors is not None:
            frequencies = frequencies / factors
        scaling, factor = self.key("rope.scaling.type"), self.key("rope.scaling.factor", 1.0)
        if scaling == "linear":
            frequencies = frequencies / factor
        if scaling == "yarn":
            # Pairs that turn more than 32 times in the original context keep their frequency, those that
            # turn less than once are slowed by the factor, the others are in between.
            original = self.key("rope.scaling.original_context_length")

            def place(turns):
                return n * np.log(original / (turns * 2 * np.pi)) / (2 * np.log(base))

            low, high = max(np.floor(place(32)), 0), min(np.ceil(place(1)), n - 1)
            ramp = np.clip((np.arange(n // 2) - low) / max(high - low, 0.001), 0, 1)
            frequencies = frequencies * (1 - ramp) + frequencies / factor * ramp
            magnitude = 1 + 0.1 * np.log(factor)
        angle = np.outer(np.arange(count), frequencies)
        return np.cos(angle) * magnitude, np.sin(angle) * magnitude

    def rotate(self, x, angles):
        """x: [count, heads, length]; pairs are neighbours in llama and deci, halves in the others."""
        cos, sin = (a[:, None, :] for a in angles)
        n = 2 * cos.shape[-1]
        y = x.copy()
        first, second = (slice(0, n, 2), slice(1, n, 2)) if self.family in ("llama", "deci") else \
            (slice(0, n // 2), slice(n // 2, n))
        y[..., first] = x[..., first] * cos - x[..., second] * sin
        y[..., second] = x[..., first] * sin + x[..., second] * cos
        return y

    def attention(self, x, layer, angles):
        count, prefix = len(x), f"blk.{layer}.attn_"
        heads = self.at("attention.head_count", layer)
        kv_heads = self.at("attention.head_count_kv", layer) or heads
        split = lambda y, heads: y.reshape(count, heads, -1)
        q = split(self.linear(x, prefix + "q"), heads)
        k = split(self.linear(x, prefix + "k"), kv_heads)
        v = split(self.linear(x, prefix + "v"), kv_heads)
        if self.tensor(prefix + "q_norm.weight") is not None:
            q, k = self.norm(q, prefix + "q_norm"), self.norm(k, prefix + "k_norm")
        q, k = self.rotate(q, angles), self.rotate(k, angles)
        group = heads // kv_heads
        k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
        scores += np.triu(np.full((count, count), -np.inf), 1)
        return self.linear(np.einsum("hij,jhd->ihd", softmax(scores), v).reshape(count, -1), prefix + "output")

    def gated(self, x, prefix, suffix=""):
        gate, up = self.linear(x, f"{prefix}gate{suffix}"), self.linear(x, f"{prefix}up{suffix}")
        return self.linear(silu(gate) * up, f"{prefix}down{suffix}")

    def feed(self, x, layer):
        prefix = f"blk.{layer}.ffn_"
        router = self.tensor(prefix + "gate_inp.weight")
        if router is None:
            return self.gated(x, prefix)
        p = softmax(x @ router.T)
        used = np.argsort(-p, axis=-1, kind="stable")[:, :self.key("expert_used_count")]
        weights = np.take_along_axis(p, used, -1)
        if self.family != "qwen2moe":
            weights = weights / weights.sum(-1, keepdims=True)
        out = np.zeros_like(x)
        for row in range(len(x)):
            for expert, weight in zip(used[row], weights[row]):
                part = lambda name, y: self.expert(prefix + name, expert, y)
                hidden = silu(part("gate_exps", x[row])) * part("up_exps", x[row])
                out[row] += weight * part("down_exps", hidden)
        if self.tensor(prefix + "gate_shexp.weight") is not None:
            gate = self.tensors[prefix + "gate_inp_shexp.weight"].reshape(-1)
            out += self.gated(x, prefix, "_shexp") / (1 + np.exp(-(x @ gate)))[:, None]
        return out

    def expert(self, name, expert, x):
        y = self.tensors[name + ".weight"][expert] @ x
        scale = self.tensor(name + ".scale")
        return y * scale[expert] if scale is not None and self.scales_feed() else y

    def logits(self, ids):
        x = self.tensors["token_embd.weight"][ids]
        angles = self.angles(len(ids))
        for layer in range(self.key("block_count")):
            if self.at("attention.head_count", layer):
                x = x + self.attention(self.norm(x, f"blk.{layer}.attn_norm"), layer, angles)
            if self.at("feed_forward_length", layer):
                x = x + self.feed(self.norm(x, f"blk.{layer}.ffn_norm"), layer)
        x = self.norm(x, "output_norm")
        return self.linear(x, "output" if self.tensor("output.weight") is not None else "token_embd")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


# ------------------------------------------------------------------------------------------------ checkpoints

WIDTH, VOCAB, LAYERS, HEADS, KV_HEADS, FEED, EXPERTS, USED = 32, 64, 2, 4, 2, 24, 3, 2
# Layers with both blocks, without attention, narrow, without feed-forward block, without anything.
UNEVEN = {"block_count": 5, "attention.key_length": 8, "attention.value_length": 8,
          "attention.head_count": [4, 0, 2, 4, 0], "attention.head_count_kv": [2, 0, 1, 4, 0],
          "feed_forward_length": [24, 40, 16, 0, 0]}
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 64,
        "rope.freq_base": 500.0}

# name: (family, tied head, further keys)
CHECKPOINTS = {
    "llama": ("llama", False, {}),
    "llama-tied": ("llama", True, {"rope.freq_base": 500000.0}),
    "llama-experts": ("llama", False, {"expert_count": EXPERTS, "expert_used_count": USED}),
    "llama-linear": ("llama", True, {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    "llama-factors": ("llama", True, {}),
    "llama-yarn": ("llama", True, YARN),
    "qwen2": ("qwen2", False, {"rope.freq_base": 1000000.0}),
    "qwen3": ("qwen3", True, {"attention.key_length": 12, "attention.value_length": 12}),
    "qwen2moe": ("qwen2moe", False, {
        "expert_count": EXPERTS, "expert_used_count": USED, "expert_feed_forward_length": 16,
        "expert_shared_feed_forward_length": 24}),
    "qwen3moe": ("qwen3moe", False, {
        "expert_count": EXPERTS, "expert_used_count": USED, "expert_feed_forward_length": 16,
        "attention.key_length": 12, "attention.value_length": 12}),
    "deci": ("deci", False, UNEVEN),
}


def make(name, seed):
    family, tied, more = CHECKPOINTS[name]
    random = np.random.Generator(np.random.PCG64(seed))
    keys = {"general.architecture": family, "general.name": f"random {name}", "tokenizer.ggml.model": "test"}
    common = {
        "context_length": 256, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": FEED,
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5, "vocab_size": VOCAB,
    }
    keys |= {f"{family}.{key}": value for key, value in (common | more).items()}
    head_len = more.get("attention.key_length", WIDTH // HEADS)
    tensors = {}

    def normal(name, *shape, scale=None):
        scale = scale or 1.5 / np.sqrt(shape[-1])
        tensors[name] = (random.standard_normal(shape) * scale).astype("<f4")

    def norm(name, length=WIDTH):
        tensors[name + ".weight"] = random.uniform(0.5, 1.5, length).astype("<f4")

    normal("token_embd.weight", VOCAB, WIDTH, scale=1.0)
    if name == "llama-factors":
        tensors["rope_freqs.weight"] = random.uniform(1, 8, head_len // 2).astype("<f4")
    for layer in range(more.get("block_count", LAYERS)):
        at = lambda key, default: more[key][layer] if key in UNEVEN and key in more else default
        prefix = f"blk.{layer}."
        heads = at("attention.head_count", HEADS)
        if heads:
            norm(prefix + "attn_norm")
            kv_heads = at("attention.head_count_kv", KV_HEADS)
            for part, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
                normal(f"{prefix}attn_{part}.weight", count * head_len, WIDTH)
                if family.startswith("qwen2"):
                    normal(f"{prefix}attn_{part}.bias", count * head_len, scale=0.5)
            if family.startswith("qwen3"):
                norm(prefix + "attn_q_norm", head_len)
                norm(prefix + "attn_k_norm", head_len)
            normal(prefix + "attn_output.weight", WIDTH, heads * head_len)
        length = at("feed_forward_length", FEED)
        if length:
            norm(prefix + "ffn_norm")
            feed(normal, prefix + "ffn_", more, length)
    norm("output_norm")
    if not tied:
        normal("output.weight", VOCAB, WIDTH)
    return keys, tensors


def feed(normal, prefix, more, length):
    experts = more.get("expert_count")
    if not experts:
        for part, rows, cols in (("gate", length, WIDTH), ("up", length, WIDTH), ("down", WIDTH, length)):
            normal(f"{prefix}{part}.weight", rows, cols)
        return
    hidden = more.get("expert_feed_forward_length", length)
    normal(prefix + "gate_inp.weight", experts, WIDTH)
    for part, rows, cols in (("gate", hidden, WIDTH), ("up", hidden, WIDTH), ("down", WIDTH, hidden)):
        normal(f"{prefix}{part}_exps.weight", experts, rows, cols)
    shared = more.get("expert_shared_feed_forward_length")
    if shared:
        normal(prefix + "gate_inp_shexp.weight", WIDTH)
        for part, rows, cols in (("gate", shared, WIDTH), ("up", shared, WIDTH), ("down", WIDTH, shared)):
            normal(f"{prefix}{part}_shexp.weight", rows, cols)


def main():
    if sys.argv[1:2] == ["check"]:
        for path in sorted(pathlib.Path(sys.argv[2]).glob("*.gguf")):
            keys, tensors = read_gguf(path)
            families = {row[0] for row in CHECKPOINTS.values()}
            if keys["general.architecture"] not in families:
                print(f"{path.name}: skipped, another family")
                continue
            ids = [int(line) for line in path.with_suffix(".ids").read_text().split()]
            want = np.fromfile(path.with_suffix(".f32"), "<f4").astype(np.float64)
            got = Model(keys, tensors).logits(ids).reshape(-1)
            print(f"{path.name}: {np.sum((got - want) ** 2) / np.sum(want ** 2):.2e}")
        return
    for seed, name in enumerate(CHECKPOINTS):
        keys, tensors = make(name, seed)
        ids = np.random.Generator(np.random.PCG64(1000 + seed)).integers(0, VOCAB, IDS)
        write_gguf(HERE / f"{name}.gguf", keys, tensors)
        (HERE / f"{name}.ids").write_text("".join(f"{i}\n" for i in ids))
        Model(keys, tensors).logits(ids).astype("<f4").tofile(HERE / f"{name}.f32")


if __name__ == "__main__":
    main()
