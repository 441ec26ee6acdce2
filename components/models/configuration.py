"""What a model's config.json may say.

transformers checks types when it loads it (components/models/trial.py). Of many values it only warns, or meets them
when there is a GPU: these are refused here.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.shared.options import Rule, boolean, integer, number, one_of, or_none
from components.shared.problems import Checks, problem, quote
from components.shared.storage import read_json

CONFIG = "config.json"
# Dense decoder-only language models whose layers hold the matrices that OSFT decomposes.
TRAINABLE_TYPES = (
    "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "phi3", "qwen2", "qwen3",
)  # fmt: skip
SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
SIZES_WITH_DEFAULT = ("head_dim", "num_key_value_heads", "max_position_embeddings")
MAX_LAYERS, MAX_SIZE = 1000, 1 << 24  # many times those of the largest models
SIZES_RULE = f"a model's sizes are integers from 1 to {MAX_SIZE}, its layers at most {MAX_LAYERS}"
EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
QUANTIZED_KEYS = ("quantization_config", "compression_config")
ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
TOKEN_KEYS = ("eos_token_id", "pad_token_id")
FETCH_FILE = "fetch the file again"

# As transformers.activations and its rope functions have them, without what has weights of its own; a test compares.
ACTIVATIONS = (
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
    "gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2",
    "relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh",
)  # fmt: skip
ROPE_TYPES = ("default", "dynamic", "linear", "llama3", "longrope", "proportional", "yarn")
_POSITIVE, _CAP = number(above=0), or_none(number(above=0), "no cap")
RULES: dict[str, Rule] = {
    "hidden_act": one_of(*ACTIVATIONS),
    "hidden_activation": or_none(one_of(*ACTIVATIONS), "the family's"),
    "rms_norm_eps": number(above=0, below=1),
    "attention_dropout": number(least=0, below=1),
    "sliding_window": or_none(integer(1), "all tokens"),
    "query_pre_attn_scalar": _POSITIVE,
    "attn_logit_softcapping": _CAP,
    "final_logit_softcapping": _CAP,
    "embedding_multiplier": _POSITIVE,
    "attention_multiplier": _POSITIVE,
    "residual_multiplier": _POSITIVE,
    "logits_scaling": _POSITIVE,
    "dtype": or_none(one_of("auto", "float64", "float32", "float16", "bfloat16"), "float32"),
    "return_dict": Rule(text="true: results are read by name", holds=lambda value: value is True),
    "is_encoder_decoder": Rule(text="false: the model is a decoder", holds=lambda value: value is False),
    "tie_word_embeddings": boolean(),
}
ROPE_RULES: dict[str, Rule] = {
    "rope_type": one_of(*ROPE_TYPES),
    "type": one_of(*ROPE_TYPES, "su"),
    "rope_theta": _POSITIVE,
    "partial_rotary_factor": number(above=0, most=1),
    "original_max_position_embeddings": integer(1),
    **dict.fromkeys(("factor",), number(least=1)),
    **dict.fromkeys(("low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "attention_factor"), _POSITIVE),
}


def read_config(path: Path) -> dict[str, Any]:
    """A model's config.json, or the one in a folder. Raises Problems when it cannot be read, or says that the model
    cannot be trained."""
    file = path / CONFIG if path.is_dir() else path
    try:
        config = read_json(file)
    except (OSError, ValueError) as error:
        raise problem(
            f"config.json cannot be read: {error}",
            where=str(file),
            rule="the configuration that lies beside a model's weights",
            remedy="name that file, or its folder",
        ) from None
    checks = Checks()
    check_config(config if isinstance(config, dict) else {}, str(file.parent), checks)
    checks.raise_if_any()
    return config


def check_config(config: Mapping[str, Any], where: str, checks: Checks) -> None:
    """Add what keeps a model from being trained and asked, as its config.json says."""
    model_type, where = config.get("model_type"), f"{where}/{CONFIG}"
    if any(config.get(key) not in (None, 0, 1) for key in EXPERT_KEYS):
        checks.add(
            f"the model is a mixture of experts ({quote(model_type)})",
            where=where,
            rule=f"the backend single-device trains dense models: {', '.join(TRAINABLE_TYPES)}",
            remedy="use a dense model, or train this one by training_hub.osft(backend='mini-trainer') on several GPUs",
        )
    elif model_type not in TRAINABLE_TYPES:
        checks.add(
            f"models of type {quote(model_type)} are not supported",
            where=where,
            rule=f"the backend single-device trains {', '.join(TRAINABLE_TYPES)}",
            remedy="use one of these, or train this one with training_hub.osft(backend='mini-trainer')",
        )
    else:
        for name, rule in _broken(config):
            given = config.get(name, config.get("rope_parameters", {}))
            what = f"{name} is {quote(given)}" if name in config else f"{name} is missing"
            remedy = f"{FETCH_FILE}, or save the model with transformers' save_pretrained"
            checks.add(what, where=where, rule=rule, remedy=remedy)
    if quantized := [key for key in QUANTIZED_KEYS if config.get(key)]:
        checks.add(
            f"the model is quantized: {quantized[0]} is {quote(config[quantized[0]])}",
            where=where,
            rule="weights to train are numbers, not codes of them",
            remedy="name the model's version in bfloat16, float16 or float32",
        )
    for key in ATTENTION_KEYS:
        if config.get(key) not in (None, "eager", "sdpa"):
            checks.add(
                f"{key} is {quote(config[key])}",
                where=where,
                rule="no code is fetched for a model: attention is transformers' own, sdpa or eager",
                remedy=f"take {key} out of a copy of the model, and name that folder",
            )


def _broken(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The entries of a config.json that cannot be, with their rules."""
    sizes_are_right = True
    for name in (*SIZES, *(name for name in SIZES_WITH_DEFAULT if config.get(name) is not None)):
        if not integer(1, MAX_LAYERS if name == "num_hidden_layers" else MAX_SIZE).holds(config.get(name)):
            sizes_are_right = False
            yield name, SIZES_RULE
    for name, rule in RULES.items():
        if name in config and not rule.holds(config[name]):
            yield name, rule.text
    for entry in ("rope_parameters", "rope_scaling"):
        for place in _with_inner(config.get(entry)):
            wrong = [key for key, rule in ROPE_RULES.items() if key in place and not rule.holds(place[key])]
            if wrong:
                yield entry, "; ".join(f"{key} is {ROPE_RULES[key].text}" for key in wrong)
    if not sizes_are_right:
        return
    heads, key_heads = config["num_attention_heads"], config.get("num_key_value_heads")
    if not config.get("head_dim") and config["hidden_size"] % heads:
        yield "num_attention_heads", f"a divisor of hidden_size, {config['hidden_size']}"
    if key_heads and heads % key_heads:
        yield "num_key_value_heads", f"a divisor of num_attention_heads, {heads}"
    for name in TOKEN_KEYS:
        if outside := [token for token in as_list(config.get(name)) if not _is_token(token, config["vocab_size"])]:
            yield name, f"tokens of the vocabulary, 0 to {config['vocab_size'] - 1}; {quote(outside[0])} is none"


def as_list(value: Any) -> list[Any]:
    """One token, several or none, as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _is_token(token: Any, vocabulary: int) -> bool:
    return type(token) is int and -1 <= token < vocabulary  # -1 is how older files say that there is none


def _with_inner(value: Any) -> list[Mapping[str, Any]]:
    """The parameters of rotary positions: one set, or one for each type of layer."""
    if not isinstance(value, dict):
        return []
    return [value, *(inner for inner in value.values() if isinstance(inner, dict))]
