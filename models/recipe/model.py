"""The network of the bundled model: a small llama in plain JAX.

It follows the layout that GGUF files of architecture `llama` describe: root-mean-square norms before each block,
rotary positions that turn neighbouring pairs of a head (2i, 2i+1), grouped key and value heads, and a SwiGLU
feed-forward part. The output head is the embedding matrix itself. A weight is kept as (inputs, outputs).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Shape:
    """Every size of the network; each matrix row is a multiple of 32 long, so that Q8_0 can hold it."""

    vocabulary: int = 1024
    context: int = 256
    width: int = 128
    layers: int = 6
    heads: int = 4
    key_heads: int = 2
    feed_forward: int = 352
    norm_epsilon: float = 1e-5
    rope_base: float = 10000.0

    @property
    def head_width(self):
        """The number of values in one head."""
        return self.width // self.heads


def initial_weights(shape, seed):
    """Random starting weights: a dictionary of stacked layers, drawn from one seed."""
    random = np.random.default_rng(seed)
    keys = shape.key_heads * shape.head_width
    small = 0.02 / (2 * shape.layers) ** 0.5

    def matrix(*sizes, deviation):
        return jnp.asarray(random.normal(0.0, deviation, sizes), jnp.float32)

    inward = shape.width**-0.5
    return {
        "embedding": matrix(shape.vocabulary, shape.width, deviation=0.02),
        "final_norm": jnp.ones(shape.width),
        "layers": {
            "attention_norm": jnp.ones((shape.layers, shape.width)),
            "query": matrix(shape.layers, shape.width, shape.width, deviation=inward),
            "key": matrix(shape.layers, shape.width, keys, deviation=inward),
            "value": matrix(shape.layers, shape.width, keys, deviation=inward),
            "attention_out": matrix(shape.layers, shape.width, shape.width, deviation=small),
            "feed_norm": jnp.ones((shape.layers, shape.width)),
            "gate": matrix(shape.layers, shape.width, shape.feed_forward, deviation=inward),
            "up": matrix(shape.layers, shape.width, shape.feed_forward, deviation=inward),
            "down": matrix(shape.layers, shape.feed_forward, shape.width, deviation=small),
        },
    }


def normalise(values, weight, epsilon):
    """Root-mean-square normalisation (Zhang and Sennrich, 2019)."""
    return values * jax.lax.rsqrt(jnp.mean(values * values, -1, keepdims=True) + epsilon) * weight


def rotate(values, sine, cosine):
    """Rotary positions (Su et al., 2021) on neighbouring pairs; values are (batch, time, head, width)."""
    even, odd = values[..., 0::2], values[..., 1::2]
    turned = jnp.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1)
    return turned.reshape(values.shape)


def attention(shape, layer, values, sine, cosine):
    """Causal attention in which each key head serves a group of neighbouring query heads."""
    batch, time, _ = values.shape
    group = shape.heads // shape.key_heads
    query = rotate((values @ layer["query"]).reshape(batch, time, shape.heads, -1), sine, cosine)
    key = rotate((values @ layer["key"]).reshape(batch, time, shape.key_heads, -1), sine, cosine)
    value = (values @ layer["value"]).reshape(batch, time, shape.key_heads, -1)
    query = query.reshape(batch, time, shape.key_heads, group, -1).transpose(0, 2, 3, 1, 4)
    key, value = key.transpose(0, 2, 3, 1), value.transpose(0, 2, 1, 3)
    parts = []
    for start in range(0, time, 64):  # A block of queries looks at the keys before its end only, which halves the work.
        end = min(start + 64, time)
        block = query[:, :, :, start:end].reshape(batch, shape.key_heads, group * (end - start), -1)
        scores = (block @ key[..., :end] * shape.head_width**-0.5).reshape(batch, shape.key_heads, group, -1, end)
        past = jnp.tril(jnp.ones((end - start, end), bool), start)
        mixing = jax.nn.softmax(jnp.where(past, scores, -1e9), -1).reshape(batch, shape.key_heads, -1, end)
        parts.append((mixing @ value[:, :, :end]).reshape(batch, shape.key_heads, group, end - start, -1))
    mixed = jnp.concatenate(parts, 3).transpose(0, 3, 1, 2, 4)
    return mixed.reshape(batch, time, -1) @ layer["attention_out"]


def logits(shape, weights, tokens):
    """The scores of every next token; tokens are (batch, time)."""
    pairs = shape.head_width // 2
    frequency = shape.rope_base ** (-jnp.arange(pairs) / pairs)
    angle = (jnp.arange(tokens.shape[1])[:, None] * frequency)[:, None, :]
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    values = weights["embedding"][tokens]
    for index in range(shape.layers):
        layer = {name: stacked[index] for name, stacked in weights["layers"].items()}
        normal = normalise(values, layer["attention_norm"], shape.norm_epsilon)
        values = values + attention(shape, layer, normal, sine, cosine)
        normal = normalise(values, layer["feed_norm"], shape.norm_epsilon)
        values = values + (jax.nn.silu(normal @ layer["gate"]) * (normal @ layer["up"])) @ layer["down"]
    return normalise(values, weights["final_norm"], shape.norm_epsilon) @ weights["embedding"].T


def surprise(shape, weights, rows):
    """The negative log-likelihood of each next token; rows are (batch, time + 1)."""
    likelihood = jax.nn.log_softmax(logits(shape, weights, rows[:, :-1]), -1)
    return -jnp.take_along_axis(likelihood, rows[:, 1:, None], -1)[..., 0]
