"""The shapes of a model's weights, from its config.json alone and without torch: a plan must not take longer to load
than to compute. A test compares them with the models that transformers builds.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from components.shared.problems import Checks, quote, suggest

# Weights with fewer entries (norms, biases, singular values) cost nothing: they are always trained in float32.
MIN_COMPACT = 1 << 16
LOGITS_AT_ONCE = 1 << 25  # 128 MiB in float32, several times
MATRIX_UNIT = 8  # entries: rows of another length are multiplied several times slower in bfloat16

# The matrices of a layer, in the order in which `Shapes.of` lists them; phi3 has some of them in one.
SEPARATE = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
FUSED = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
ATTENTION, MLP = SEPARATE[:4], SEPARATE[4:]
NORMS = ("input_layernorm", "post_attention_layernorm")
GEMMA_NORMS = (*NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")
HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
GEMMA = ("gemma", "gemma2", "gemma3_text")
# transformers' defaults where config.json has none; others share out the hidden size, one key head a query head.
HEAD_SIZES = {"qwen3": 128} | dict.fromkeys(GEMMA, 256)
KEY_HEADS = {"mistral": 8, "qwen2": 32, "qwen3": 32, "gemma": 16, "gemma2": 4, "gemma3_text": 4}
# Families whose config.json decides on biases of attention and of the rest; Qwen2's queries, keys and values have some.
ATTENTION_BIAS = ("llama", "granite", "qwen3", *GEMMA)
MLP_BIAS = ("llama", "granite")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shapes:
    """A dense decoder-only language model of one of the families in `configuration.TRAINABLE_TYPES`."""

    layers: int
    hidden: int
    intermediate: int
    query: int
    """Width of all query heads together."""
    vocabulary: int
    matrices: Mapping[str, tuple[int, int]]
    """[out, in] of each matrix of one layer that OSFT can decompose, by its name in the layer."""
    vectors: Mapping[str, int]
    """Entries of each norm and bias of one layer, by its name in the layer."""
    tied: bool
    """The last layer's weight is the embedding's."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shapes":
        """Of the values of config.json."""
        kind, hidden, intermediate = config["model_type"], config["hidden_size"], config["intermediate_size"]
        heads = config["num_attention_heads"]
        size = config.get("head_dim", HEAD_SIZES.get(kind)) or hidden // heads
        key_heads = config.get("num_key_value_heads", KEY_HEADS.get(kind)) or heads
        query, key = heads * size, key_heads * size
        if kind == "phi3":
            matrices = [(query + 2 * key, hidden), (hidden, query), (2 * intermediate, hidden), (hidden, intermediate)]
        else:
            mlp = [(intermediate, hidden), (intermediate, hidden), (hidden, intermediate)]
            matrices = [(query, hidden), (key, hidden), (key, hidden), (hidden, query), *mlp]
        names = default_patterns(kind)
        has_bias: tuple[str, ...] = ATTENTION if kind in ATTENTION_BIAS and config.get("attention_bias") else ()
        has_bias = ATTENTION[:3] if kind == "qwen2" else has_bias
        has_bias += MLP if kind in MLP_BIAS and config.get("mlp_bias") else ()
        by_name = dict(zip(names, matrices, strict=True))
        vectors = {f"{name}.weight": hidden for name in (GEMMA_NORMS if kind in ("gemma2", "gemma3_text") else NORMS)}
        vectors |= {f"{name}.weight": size for name in HEAD_NORMS if kind in ("qwen3", "gemma3_text")}
        vectors |= {f"{name}.bias": by_name[name][0] for name in has_bias}
        return cls(
            layers=config["num_hidden_layers"],
            hidden=hidden,
            intermediate=intermediate,
            query=query,
            vocabulary=config["vocab_size"],
            matrices=by_name,
            vectors=vectors,
            tied=is_tied(config),
        )

    @property
    def small(self) -> int:
        """Entries of one layer's norms and biases."""
        return sum(self.vectors.values())

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight, by its name in the files; of the output layer also where it is tied."""
        table = (self.vocabulary, self.hidden)
        found: dict[str, tuple[int, ...]] = {EMBEDDING: table, OUTPUT: table, "model.norm.weight": (self.hidden,)}
        for layer in range(self.layers):
            found |= {weight_name(layer, name): shape for name, shape in self.matrices.items()}
            found |= {f"model.layers.{layer}.{name}": (entries,) for name, entries in self.vectors.items()}
        return found

    def targets(self, patterns: Collection[str] | None) -> list[frozenset[str]]:
        """For each layer the names of the matrices that hold one of the patterns; all for None."""
        chosen = self.matrices if patterns is None else patterns
        return [
            frozenset(name for name in self.matrices if is_target(weight_name(layer, name), chosen))
            for layer in range(self.layers)
        ]

    def check_patterns(self, patterns: Collection[str], option: str, checks: Checks) -> None:
        """Add each pattern of a training option that names no matrix: nobody would notice that it has no effect."""
        names = [weight_name(layer, name) for layer in range(self.layers) for name in self.matrices]
        for pattern in patterns:
            if not any(is_target(name, [pattern]) for name in names):
                checks.add(
                    f"{quote(pattern)} is not part of any matrix' name{suggest(pattern, self.matrices)}",
                    where=f"training option {option}",
                    rule=f"each is part of a name like {names[0]}; a layer has {', '.join(self.matrices)}",
                    remedy=f"correct the pattern, or leave {option} out for all of them",
                )


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the output layer's weight is the embedding's."""
    return bool(config.get("tie_word_embeddings", config.get("model_type") in GEMMA))


def default_patterns(model_type: str) -> tuple[str, ...]:
    """The matrices of a layer that are decomposed, or get adapters, unless somebody chooses; as in mini_trainer."""
    return FUSED if model_type == "phi3" else SEPARATE


def weight_name(layer: int, matrix: str) -> str:
    """A matrix' name in the model's files."""
    return f"model.layers.{layer}.{matrix}.weight"


def is_target(name: str, patterns: Collection[str]) -> bool:
    """Whether this is the name, in the model's files, of a layer's matrix that holds one of the patterns."""
    return ".layers." in name and name.endswith(".weight") and any(pattern in name for pattern in patterns)


def frozen_rank(shape: tuple[int, ...], unfreeze_rank_ratio: float) -> int:
    """How many of a matrix' singular directions stay frozen; 0 means that the matrix is trained as it is.

    Rounds as mini_trainer's `auto_generate_target_osft_config` does, whose argument is the frozen share.
    """
    full_rank = min(shape)
    return min(int(full_rank * (1.0 - unfreeze_rank_ratio)), full_rank - 1)


def protection_ranks(shape: tuple[int, int], frozen: int) -> tuple[int, int]:
    """How many directions tell the protected from the free ones on a matrix' output side and on its input side.

    The frozen ones, or the free ones where these are fewer and, with the frozen, span the whole side.
    """
    fewer = min(frozen, min(shape) - frozen)
    return (frozen, fewer) if shape[0] >= shape[1] else (fewer, frozen)
