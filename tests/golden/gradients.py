"""Gradients of the checkpoints beside this file, by PyTorch's automatic differentiation in float64.

    python gradients.py         writes NAME.gradients: the mean cross-entropy of each id after the first, then its
                                gradient by each weight in the order of NAME.gguf, as little-endian f32

Needs Python 3, numpy and torch. The forward pass is written anew in torch; nothing is differentiated by hand.
"""

import numpy as np
import torch
from torch.nn import functional as F

from make import HERE, Model as Numpy, read_gguf

NAMES = ["llama-tied", "llama-experts", "qwen2moe", "qwen3"]


class Model:
    def __init__(self, keys, tensors):
        self.numpy = Numpy(keys, tensors)
        self.tensors = {name: torch.tensor(t, dtype=torch.float64, requires_grad=True) for name, t in tensors.items()}

    def linear(self, x, name):
        return F.linear(x, self.tensors[name + ".weight"], self.tensors.get(name + ".bias"))

    def norm(self, x, name):
        eps = self.numpy.key("attention.layer_norm_rms_epsilon")
        return F.rms_norm(x, x.shape[-1:], self.tensors[name + ".weight"], eps)

    def rotate(self, x):
        cos, sin = (torch.tensor(a)[:, None, :] for a in self.numpy.angles(len(x)))
        if self.numpy.family == "llama":
            first, second = x[..., 0::2], x[..., 1::2]
            return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)

    def attention(self, x, prefix):
        heads, kv_heads = self.numpy.heads, self.numpy.kv_heads
        q, k, v = (self.linear(x, prefix + part).view(len(x), n, -1)
                   for part, n in (("q", heads), ("k", kv_heads), ("v", kv_heads)))
        if prefix + "q_norm.weight" in self.tensors:
            q, k = self.norm(q, prefix + "q_norm"), self.norm(k, prefix + "k_norm")
        q, k = self.rotate(q), self.rotate(k)
        q, k, v = (t.transpose(0, 1) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.linear(y.transpose(0, 1).flatten(1), prefix + "output")

    def gated(self, x, prefix, suffix=""):
        part = lambda name, x: self.linear(x, f"{prefix}{name}{suffix}")
        return part("down", F.silu(part("gate", x)) * part("up", x))

    def feed(self, x, prefix):
        if prefix + "gate_inp.weight" not in self.tensors:
            return self.gated(x, prefix)
        p = self.linear(x, prefix + "gate_inp").softmax(-1)
        weights, used = p.topk(self.numpy.key("expert_used_count"))
        if self.numpy.family != "qwen2moe":
            weights = weights / weights.sum(-1, keepdim=True)
        gate, up, down = (self.tensors[f"{prefix}{part}_exps.weight"][used] for part in ("gate", "up", "down"))
        hidden = F.silu(torch.einsum("rehw,rw->reh", gate, x)) * torch.einsum("rehw,rw->reh", up, x)
        out = torch.einsum("rewh,reh,re->rw", down, hidden, weights)
        if prefix + "gate_shexp.weight" in self.tensors:
            gate = x @ self.tensors[prefix + "gate_inp_shexp.weight"].view(-1)
            out = out + gate.sigmoid()[:, None] * self.gated(x, prefix, "_shexp")
        return out

    def loss(self, ids):
        x = self.tensors["token_embd.weight"][ids[:-1]]
        for layer in range(self.numpy.key("block_count")):
            x = x + self.attention(self.norm(x, f"blk.{layer}.attn_norm"), f"blk.{layer}.attn_")
            x = x + self.feed(self.norm(x, f"blk.{layer}.ffn_norm"), f"blk.{layer}.ffn_")
        head = "output" if "output.weight" in self.tensors else "token_embd"
        return F.cross_entropy(self.linear(self.norm(x, "output_norm"), head), ids[1:])


for name in NAMES:
    model = Model(*read_gguf(HERE / f"{name}.gguf"))
    ids = torch.tensor([int(line) for line in (HERE / f"{name}.ids").read_text().split()])
    loss = model.loss(ids)
    loss.backward()
    grads = [t.grad.numpy().reshape(-1) for t in model.tensors.values()]
    np.concatenate([[loss.item()], *grads]).astype("<f4").tofile(HERE / f"{name}.gradients")
    print(f"{name}: loss {loss.item():.6f}, {sum(map(len, grads))} derivatives")
