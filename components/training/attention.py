"""Attention of packed samples: each token sees the earlier tokens of its own sample and nothing else.

On CUDA torch's variable-length flash attention computes just that. Where it does not apply (CPU, sliding windows that
are shorter than samples, capped scores, large heads), transformers masks: it takes the samples' limits from position
ids that start again at 0.
"""

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

NAME = "packed_samples"
MAX_HEAD = 256  # of flash attention
# torch 2.11 takes keys of fewer heads than queries as they come, later ones when asked.
_ASKS_FOR_GROUPED_QUERIES = "enable_gqa" in inspect.signature(varlen_attn).parameters


def attention_for(config: Any, device: torch.device, dtype: torch.dtype, longest_sample: int) -> str:
    """The name of the attention implementation to load a model with; samples have so many tokens at most."""
    if config.model_type == "gemma2" or getattr(config, "attn_logit_softcapping", None):
        return "eager"  # transformers has nothing else for Gemma 2, capped or not
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    window = getattr(config, "sliding_window", None)
    fits = head_size <= MAX_HEAD and head_size % 8 == 0 and (window is None or longest_sample <= window)
    if device.type != "cuda" or dtype == torch.float32 or not fits:
        return "sdpa"
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, packed_attention)  # transformers makes no mask for an implementation of others
    return NAME


def packed_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: None, *, scaling: float, **kwargs: Any
) -> tuple[Tensor, None]:
    """As transformers' attention functions: queries [1, heads, T, head size], keys and values [1, key heads, T, head
    size], result [1, T, heads, head size]; `kwargs` with the samples' limits, as `Pack.limits` gives them."""
    query, key, value = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    limits, longest = kwargs["cu_seq_lens_q"], kwargs["max_length_q"]
    grouped: Any = {"enable_gqa": True} if _ASKS_FOR_GROUPED_QUERIES else {}
    result: Any = varlen_attn(
        query, key, value, limits, limits, longest, longest, scale=scaling, window_size=(-1, 0), **grouped
    )
    return result[None], None
