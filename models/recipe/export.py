"""Writes the trained network and its vocabulary as one GGUF file.

    python export.py --work DIRECTORY --out ../attar-stories.gguf

Matrices become Q8_0, norms stay 32-bit, and the head is left out because it is the embedding matrix.
"""

import argparse
import pickle
from pathlib import Path

import gguf
import numpy as np
import sentencepiece

from model import Shape

MATRICES = {"query": "attn_q", "key": "attn_k", "value": "attn_v", "attention_out": "attn_output", "gate": "ffn_gate",
            "up": "ffn_up", "down": "ffn_down"}
NORMS = {"attention_norm": "attn_norm", "feed_norm": "ffn_norm"}


def write_settings(writer, shape):
    """The sizes of the network and the facts about the file."""
    writer.add_name("attar-stories")
    writer.add_description("A very small model of children's stories, trained on text from its own generator.")
    writer.add_license("MIT OR Apache-2.0")
    writer.add_size_label("1.2M")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_heads)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocabulary)


def write_vocabulary(writer, vocabulary):
    """Pieces, scores and kinds; a merge of a higher score comes first, so the scores are negative ranks."""
    numbers = range(vocabulary.get_piece_size())
    kinds = [gguf.TokenType.UNKNOWN if vocabulary.is_unknown(number)
             else gguf.TokenType.CONTROL if vocabulary.is_control(number)
             else gguf.TokenType.BYTE if vocabulary.is_byte(number)
             else gguf.TokenType.NORMAL for number in numbers]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([vocabulary.id_to_piece(number) for number in numbers])
    writer.add_token_scores([vocabulary.get_score(number) for number in numbers])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(vocabulary.bos_id())
    writer.add_eos_token_id(vocabulary.eos_id())
    writer.add_unk_token_id(vocabulary.unk_id())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)


def write_tensors(writer, shape, weights):
    """Every tensor under its GGUF name; a matrix of the file has its outputs as rows."""

    def matrix(name, values):
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)

    matrix("token_embd", weights["embedding"])
    writer.add_tensor("output_norm.weight", weights["final_norm"])
    for index in range(shape.layers):
        for ours, theirs in NORMS.items():
            writer.add_tensor(f"blk.{index}.{theirs}.weight", weights["layers"][ours][index])
        for ours, theirs in MATRICES.items():
            matrix(f"blk.{index}.{theirs}", weights["layers"][ours][index].T)


def read_weights(path, shape):
    """The weights of a written file, back in the form that `model.py` uses."""
    found = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
             for tensor in gguf.GGUFReader(path).tensors}
    layers = {ours: np.stack([found[f"blk.{index}.{theirs}.weight"] for index in range(shape.layers)])
              for ours, theirs in NORMS.items()}
    layers |= {ours: np.stack([found[f"blk.{index}.{theirs}.weight"].T for index in range(shape.layers)])
               for ours, theirs in MATRICES.items()}
    return {"embedding": found["token_embd.weight"], "final_norm": found["output_norm.weight"], "layers": layers}


def main():
    """Reads the command line."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--work", type=Path, required=True, help="directory of the vocabulary and the checkpoint")
    reader.add_argument("--out", type=Path, required=True)
    choice = reader.parse_args()
    shape = Shape()
    writer = gguf.GGUFWriter(choice.out, "llama")
    write_settings(writer, shape)
    write_vocabulary(writer, sentencepiece.SentencePieceProcessor(model_file=str(choice.work / "vocabulary.model")))
    write_tensors(writer, shape, pickle.loads((choice.work / "checkpoint.pickle").read_bytes())["weights"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(choice.out, choice.out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
