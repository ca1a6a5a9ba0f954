"""The two models: shapes, construction, and export as folders that transformers and MLX loaders understand."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

from tokenizer import END_OF_TEXT, MAX_POSITIONS, TURN_END, save_tokenizer

ROPE_THETA = 10000.0
EMBEDDING_DEVIATION = 0.02


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2 model with heads of 64; all are multiples of 64, so that any quantization group fits."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int


HEAD_SIZE = 64
DRAFT_SHAPE = Shape(hidden=128, layers=2, heads=2, kv_heads=1, feed_forward=256)


def build(shape: Shape, tokenizer: Tokenizer, tied: bool) -> Qwen2ForCausalLM:
    """A model with random weights whose layers change nothing yet."""
    config = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=HEAD_SIZE,
        max_position_embeddings=MAX_POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=tied,
        rms_norm_eps=1e-6,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(TURN_END),
        pad_token_id=tokenizer.token_to_id(END_OF_TEXT),
        use_sliding_window=False,
        # On CPUs the backward pass of the fused attention is slower than the plain one at these lengths.
        attn_implementation="eager",
    )
    model = Qwen2ForCausalLM(config)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=EMBEDDING_DEVIATION)
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            torch.nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        for linear in (attention.o_proj, mlp.down_proj):
            torch.nn.init.zeros_(linear.weight)
    return model


def load(folder: Path) -> Qwen2ForCausalLM:
    """Load exported weights in float32."""
    return Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def parameter_count(model: torch.nn.Module) -> int:
    """The number of weights (tied ones once)."""
    return sum(parameter.numel() for parameter in model.parameters())


def export(model: Qwen2ForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write config, generation config, bfloat16 weights and the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).cpu().eval().to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, folder)
    _complete_config(folder / "config.json")
    end_ids = [tokenizer.token_to_id(TURN_END), tokenizer.token_to_id(END_OF_TEXT)]
    generation = {
        "do_sample": False,
        "eos_token_id": end_ids,
        "pad_token_id": tokenizer.token_to_id(END_OF_TEXT),
    }
    _write_json(folder / "generation_config.json", generation)


def _complete_config(file: Path) -> None:
    """Add the keys that older and other loaders read (rope_theta at the top, torch_dtype)."""
    config = json.loads(file.read_text(encoding="utf-8"))
    config["rope_theta"] = ROPE_THETA
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": ROPE_THETA}
    config["torch_dtype"] = config["dtype"] = "bfloat16"
    _write_json(file, dict(sorted(config.items())))


def _write_json(file: Path, content: dict[str, object]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
