"""Models with one thing altered each, as people publish, convert and copy them: each is to train or is refused early.

    alter(good, folder, "int8 codes")    # a copy of a good model's folder, altered

`ALTERATIONS` holds what is done by name, and what must be said before weights are fetched; empty for models that train.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from tests.tiny_model import CHATML, write_tiny_model

CONFIG, GENERATION, TOKENIZER, SETTINGS = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
)  # fmt: skip
TEMPLATE, WEIGHTS, INDEX = "chat_template.jinja", "model.safetensors", "model.safetensors.index.json"
EMBEDDING, HEAD, UP = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 123456\n"


@dataclasses.dataclass(frozen=True)
class Alteration:
    """What is done to a copy of a good model, and what is said of it; nothing for a model that trains."""

    change: Callable[[Path], Any]
    said: str = ""


def write_good_model(folder: Path) -> Path:
    """The model that is altered: its output layer is its own, and its end token is named everywhere."""
    return write_tiny_model(folder, tie_word_embeddings=False)


def alter(good: Path, folder: Path, name: str) -> Path:
    shutil.copytree(good, folder)
    ALTERATIONS[name].change(folder)
    return folder


def entries(file: str, **values: Any) -> Callable[[Path], Any]:
    """Other entries in a JSON file; None takes one out, unless it is `NULL`."""

    def change(folder: Path) -> None:
        path = folder / file
        content = json.loads(path.read_text()) | values
        path.write_text(
            json.dumps({key: None if value is NULL else value for key, value in content.items() if value is not None})
        )

    return change


NULL = object()


def text(file: str, content: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / file).write_text(content)


def without(file: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / file).unlink()


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], Any]:
    def altered(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        save_file(
            {name: one.clone().contiguous() for name, one in change(tensors).items()},
            folder / WEIGHTS,
            {"format": "pt"},
        )

    return altered


def both(*changes: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda folder: [change(folder) for change in changes]


def matrices(dtype: torch.dtype) -> Callable[[Path], Any]:
    return weights(
        lambda all: {name: one.to(dtype) if name.endswith("proj.weight") else one for name, one in all.items()}
    )


def rope(**values: Any) -> Callable[[Path], Any]:
    return entries(CONFIG, rope_parameters={"rope_type": "default", "rope_theta": 10000.0} | values)


def split(rename: Callable[[dict[str, str]], dict[str, str]] = lambda map: map) -> Callable[[Path], Any]:
    """The weights in two files with an index."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        names, place = sorted(tensors), {}
        for number, held in enumerate((names[::2], names[1::2]), 1):
            file = f"model-0000{number}-of-00002.safetensors"
            save_file({name: tensors[name] for name in held}, folder / file, {"format": "pt"})
            place |= dict.fromkeys(held, file)
        (folder / WEIGHTS).unlink()
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": rename(place)}))

    return change


def added_token(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.chat_template = CHATML.replace("<|im_start|>", "<|turn|>")
    tokenizer.save_pretrained(folder)


def bytes_of(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda folder: (folder / WEIGHTS).write_bytes(change((folder / WEIGHTS).read_bytes()))


def doubled_name(content: bytes) -> bytes:
    """The header names a tensor a second time."""
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip(b" ")
    first = next(iter(name for name in json.loads(header) if name != "__metadata__"))
    header = header[:-1] + b"," + json.dumps({first: json.loads(header)[first]}).encode()[1:]
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def tokenizer(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def altered(folder: Path) -> None:
        content = json.loads((folder / TOKENIZER).read_text())
        change(content)
        (folder / TOKENIZER).write_text(json.dumps(content))

    return altered


def template(content: str, said: str = "") -> Alteration:
    return Alteration(text(TEMPLATE, content), said)


def config(said: str = "", **values: Any) -> Alteration:
    return Alteration(entries(CONFIG, **values), said)


def _alterations() -> Iterator[tuple[str, Alteration]]:
    yield "nothing", Alteration(lambda folder: None)
    # What the configuration says.
    yield "quantization_config", config("quantized", quantization_config={"quant_method": "gptq", "bits": 4})
    yield "compression_config", config("quantized", compression_config={"format": "int-quantized"})
    yield "kernel of a hub", config("attn_implementation is", attn_implementation="somebody/kernel")
    yield "flash attention", config("_attn_implementation is", _attn_implementation="flash_attention_2")
    yield "eager attention", config(attn_implementation="eager")
    yield "experts", config("mixture of experts", num_local_experts=8)
    yield "another family", config("not supported", model_type="mamba")
    yield "no family", config("not supported", model_type=None)
    yield "no sizes", config("hidden_size is missing", hidden_size=None)
    yield "heads that do not divide", config("num_attention_heads", num_attention_heads=5, head_dim=None)
    yield "key heads that do not divide", config("num_key_value_heads", num_key_value_heads=3)
    yield "odd heads", config("config.json", head_dim=7)
    yield "other heads", config("have another shape", head_dim=16)
    yield "fewer layers", config("none of this model", num_hidden_layers=1)
    yield "more layers", config("are missing", num_hidden_layers=3)
    yield "larger vocabulary", config("have another shape", vocab_size=512)
    yield (
        "smaller vocabulary",
        config("have another shape", vocab_size=100),
    )
    yield "another width", config("have another shape", intermediate_size=96)
    yield "biases", config("are missing", attention_bias=True)
    yield (
        "tied without saying so",
        Alteration(weights(lambda w: {n: t for n, t in w.items() if n != HEAD}), "are missing"),
    )
    yield (
        "tied with a copy",
        Alteration(
            both(entries(CONFIG, tie_word_embeddings=True), weights(lambda w: w | {HEAD: w[EMBEDDING].clone()}))
        ),
    )
    yield "tied with another matrix", config("another matrix", tie_word_embeddings=True)
    yield "tied is a word", config("tie_word_embeddings", tie_word_embeddings="yes")
    yield "activation", config("hidden_act", hidden_act="no_such")
    yield "another activation", config(hidden_act="gelu_pytorch_tanh")
    yield "activation is a number", config("hidden_act", hidden_act=7)
    yield "norm's epsilon is negative", config("rms_norm_eps", rms_norm_eps=-1.0)
    yield "norm's epsilon is a word", config("rms_norm_eps", rms_norm_eps="x")
    yield "norm's epsilon is NaN", config("rms_norm_eps", rms_norm_eps=float("nan"))
    yield "dropout of 2", config("attention_dropout", attention_dropout=2.0)
    yield "dropout", config(attention_dropout=0.1)
    yield "context of -1", config("max_position_embeddings", max_position_embeddings=-1)
    yield "context is a word", config("max_position_embeddings", max_position_embeddings="long")
    yield "format", config("dtype", dtype="float4")
    yield "format is a number", config("dtype", dtype=7)
    yield "older format's name", config(dtype=None, torch_dtype="float32")
    yield "results without names", config("return_dict", return_dict=False)
    yield "encoder and decoder", config("is_encoder_decoder", is_encoder_decoder=True)
    yield "no cache", config(use_cache=False)
    yield "attention in results", config(output_attentions=True)
    yield "labels", config("config.json", id2label=7)
    yield "code of the author", config(auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    yield "code of the author is a number", config("config.json", auto_map=7)
    yield "end token beyond", config("eos_token_id", eos_token_id=100000)
    yield "end token is a word", config("eos_token_id", eos_token_id="<|im_end|>")
    yield "padding beyond", config("pad_token_id", pad_token_id=300)
    yield "padding of -1", config(pad_token_id=-1)
    yield "no padding", config(pad_token_id=None)
    yield "no end token in config.json", config(eos_token_id=None)
    yield "architecture of another", config(architectures=["MistralForCausalLM"])
    yield "no version", config(transformers_version=None)
    yield "written by a later version", config(transformers_version="9.0.0", something_new={"a": 1})
    yield (
        "NaN beside it",
        Alteration(lambda f: (f / CONFIG).write_text((f / CONFIG).read_text().rstrip()[:-1] + ',"x": NaN}')),
    )
    yield "rope without factors", Alteration(rope(rope_type="llama3"), "config.json")
    yield "rope of another type", Alteration(rope(rope_type="no_such"), "rope_parameters")
    yield "rope's base is 0", Alteration(rope(rope_theta=0), "rope_parameters")
    yield "rope's base is a word", Alteration(rope(rope_theta="x"), "rope_parameters")
    yield "rope's factor is a word", Alteration(rope(rope_type="linear", factor="x"), "rope_parameters")
    yield "rope's factor is negative", Alteration(rope(rope_type="linear", factor=-2.0), "rope_parameters")
    yield "linear rope", Alteration(rope(rope_type="linear", factor=2.0))
    yield "yarn", Alteration(rope(rope_type="yarn", factor=2.0, original_max_position_embeddings=512))
    yield "dynamic rope", Alteration(rope(rope_type="dynamic", factor=2.0))
    yield "rope is a list", config("config.json", rope_parameters=[1])
    yield "older rope", config(rope_parameters=None, rope_theta=5000.0)
    yield "no JSON", Alteration(text(CONFIG, "{"), "no JSON")
    yield "a list in place of an object", Alteration(text(CONFIG, "[]"), "holds a list")
    yield "nested without end", Alteration(text(CONFIG, "[" * 100_000), "no JSON")
    yield "empty configuration", Alteration(text(CONFIG, ""), "no JSON")
    yield "configuration is a pointer", Alteration(text(CONFIG, POINTER), "pointer of Git LFS")
    yield "no configuration", Alteration(without(CONFIG), "lacks config.json")
    yield "an adapter", Alteration(both(without(CONFIG), text("adapter_config.json", "{}")), "an adapter")
    # How it generates.
    yield "end of another token", Alteration(both(entries(CONFIG, eos_token_id=1), entries(GENERATION, eos_token_id=1)))
    yield "no generation_config", Alteration(without(GENERATION))
    yield "several ends", Alteration(entries(GENERATION, eos_token_id=[1, 2]))
    yield "generation: end beyond", Alteration(entries(GENERATION, eos_token_id=99999), GENERATION)
    yield "generation: end is a word", Alteration(entries(GENERATION, eos_token_id="end"), GENERATION)
    yield "generation: sampling", Alteration(entries(GENERATION, do_sample=True, temperature=0.7, top_p=0.9))
    yield "generation: temperature of -1", Alteration(entries(GENERATION, do_sample=True, temperature=-1.0))
    yield "generation: no JSON", Alteration(text(GENERATION, "{"), "no JSON")
    yield "generation: a list", Alteration(text(GENERATION, "[]"), "holds a list")
    # The tokenizer.
    yield "tokenizer: no JSON", Alteration(text(TOKENIZER, "{"), TOKENIZER)
    yield "tokenizer: empty object", Alteration(text(TOKENIZER, "{}"), TOKENIZER)
    yield "tokenizer: a pointer", Alteration(text(TOKENIZER, POINTER), "pointer of Git LFS")
    yield "tokenizer: none", Alteration(without(TOKENIZER), "a tokenizer")
    yield (
        "tokenizer: sentencepiece only",
        Alteration(both(without(TOKENIZER), text("tokenizer.model", "x")), "tokenizer.model only"),
    )
    yield "tokenizer: another type", Alteration(tokenizer(lambda t: t["model"].update(type="NoSuch")), TOKENIZER)
    yield (
        "tokenizer: merges of nothing",
        Alteration(tokenizer(lambda t: t["model"].update(merges=[["qq", "zz"]])), TOKENIZER),
    )
    yield "tokenizer: no bytes", Alteration(tokenizer(lambda t: t.update(pre_tokenizer=None, decoder=None)))
    yield "tokenizer: no decoder", Alteration(tokenizer(lambda t: t.update(decoder=None)))
    yield (
        "tokenizer: truncation",
        Alteration(
            tokenizer(
                lambda t: t.update(
                    truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
                )
            ),
        ),
    )
    yield "tokenizer: padding", Alteration(
        tokenizer(lambda t: t.update(padding={
            "strategy": {"Fixed": 256}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 2, "pad_type_id": 0,
            "pad_token": "<|im_end|>",
        })),
    )  # fmt: skip
    yield (
        "tokenizer: code of the author",
        Alteration(
            entries(SETTINGS, tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", None]}),
            "code of its author",
        ),
    )
    yield "tokenizer: class is a number", Alteration(entries(SETTINGS, tokenizer_class=7), "tokenizer_class")
    yield "tokenizer: unknown class", Alteration(entries(SETTINGS, tokenizer_class="NoSuchTokenizer"))
    yield "tokenizer: another class", Alteration(entries(SETTINGS, tokenizer_class="LlamaTokenizer"))
    yield "tokenizer: tokens as a list", Alteration(entries(SETTINGS, model_specific_special_tokens=["<s>"]), SETTINGS)
    yield "tokenizer: no end", Alteration(entries(SETTINGS, eos_token=None), "end token")
    yield (
        "tokenizer: end that it lacks",
        Alteration(entries(SETTINGS, eos_token="<|no such|>", pad_token="<|no such|>")),
    )
    yield "tokenizer: no padding", Alteration(entries(SETTINGS, pad_token=None))
    yield "tokenizer: end is a number", Alteration(entries(SETTINGS, eos_token=7), SETTINGS)
    yield "tokenizer: short texts only", Alteration(entries(SETTINGS, model_max_length=4))
    yield "tokenizer: length is a word", Alteration(entries(SETTINGS, model_max_length="long"), "chat template")
    yield "tokenizer: no settings", Alteration(without(SETTINGS), "end token")
    yield "tokenizer: settings are no JSON", Alteration(text(SETTINGS, "{"), "no JSON")
    yield "token beyond the vocabulary", Alteration(added_token, "chat template")
    yield (
        "token beyond, in every turn",
        Alteration(both(added_token, text(TEMPLATE, CHATML.replace("<|im_start|>", "<|turn|>"))), "no such tokens"),
    )
    # The chat template.
    yield "template: none", Alteration(without(TEMPLATE), "chat template")
    yield "template: empty", template("", "chat template")
    yield "template: syntax", template("{% for %}", "chat template")
    yield "template: raises", template("{{ raise_exception('no') }}", "refuses the conversation: no")
    yield "template: unknown filter", template("{{ messages | nosuch }}", "chat template")
    yield (
        "template: measures tools",
        template("{% if tools is defined and tools | length %}{% endif %}" + CHATML, "no len()"),
    )
    yield "template: reaches for Python", template("{{ messages.__class__.__mro__ }}" + CHATML, "chat template")
    yield (
        "template: loops",
        template("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "too long"),
    )
    yield (
        "template: takes memory",
        template(
            "{% set n = namespace(a='x' * 1000) %}{% for i in range(60) %}{% set n.a = n.a + n.a %}{% endfor %}",
            "chat template",
        ),
    )
    yield "template: recursion", template("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "chat template")
    yield "template: divides by 0", template("{{ 1 / 0 }}" + CHATML, "division")
    yield (
        "template: no system message",
        template(
            CHATML.replace("for m in messages", "for m in messages if m.role != 'system'"), "the system's message"
        ),
    )
    yield (
        "template: no question",
        template(CHATML.replace("for m in messages", "for m in messages if m.role != 'user'"), "the user's message"),
    )
    yield (
        "template: no answer",
        template(CHATML.replace("for m in messages", "for m in messages if m.role != 'assistant'"), "chat template"),
    )
    yield "template: capitals", template(CHATML.replace("m.content", "m.content | upper"), "chat template")
    yield (
        "template: no end",
        template(
            "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant: {% endif %}",
            "ends an answer with no token",
        ),
    )
    yield (
        "template: another prompt",
        template(CHATML.replace("<|im_start|>assistant\n{% endif", "<|im_start|>bot\n{% endif"), "chat template"),
    )
    yield (
        "template: demands a system message",
        template(
            "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}" + CHATML,
            "system first",
        ),
    )
    yield "template: trims", template(CHATML.replace("m.content", "m.content | trim"))
    # The weights.
    yield "int8 codes", Alteration(matrices(torch.int8), "quantized")
    yield "float8", Alteration(matrices(torch.float8_e4m3fn), "quantized")
    yield (
        "uint8 codes with scales",
        Alteration(weights(lambda w: w | {UP: w[UP].to(torch.uint8), f"{UP}_scale": w[UP][:, :1]}), "quantized"),
    )
    yield "bfloat16", Alteration(matrices(torch.bfloat16))
    yield "float16", Alteration(matrices(torch.float16))
    yield "float64", Alteration(matrices(torch.float64))
    yield (
        "head of another size",
        Alteration(weights(lambda w: w | {HEAD: torch.cat([w[HEAD], w[HEAD][:8]])}), "have another shape"),
    )
    yield "a matrix transposed", Alteration(weights(lambda w: w | {UP: w[UP].T}), "have another shape")
    yield "a matrix is missing", Alteration(weights(lambda w: {n: t for n, t in w.items() if n != UP}), "are missing")
    yield (
        "a norm is missing",
        Alteration(weights(lambda w: {n: t for n, t in w.items() if n != "model.norm.weight"}), "are missing"),
    )
    yield (
        "names without model.",
        Alteration(weights(lambda w: {n.removeprefix("model."): t for n, t in w.items()}), "are missing"),
    )
    yield (
        "a foreign matrix",
        Alteration(weights(lambda w: w | {"model.extra.weight": w[UP].clone()}), "none of this model"),
    )
    yield (
        "an adapter's matrices",
        Alteration(weights(lambda w: w | {UP.replace("weight", "lora_A.weight"): w[UP][:4]}), "none of this model"),
    )
    yield (
        "buffers of older files",
        Alteration(weights(lambda w: w | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})),
    )
    yield "a name twice", Alteration(bytes_of(doubled_name), "more than once")
    yield "weights are a pointer", Alteration(text(WEIGHTS, POINTER), "pointer of Git LFS")
    yield "weights are cut", Alteration(bytes_of(lambda content: content[:-100]), "is cut")
    yield "weights have more", Alteration(bytes_of(lambda content: content + b"x"), "is cut")
    yield "weights are empty", Alteration(bytes_of(lambda content: b""), "is cut")
    yield "weights are a pickle", Alteration(bytes_of(lambda content: b"\x80\x04" + content), "is cut")
    yield "weights have no header", Alteration(bytes_of(lambda content: b"\xff" * 8 + content[8:]), "is cut")
    yield "no weights", Alteration(without(WEIGHTS), "weights")
    yield "pickles only", Alteration(both(without(WEIGHTS), text("pytorch_model.bin", "x")), "weights")
    yield "two files", Alteration(split())
    yield (
        "index of another file",
        Alteration(split(lambda m: m | {UP: "model-00009-of-00002.safetensors"}), "weights are missing"),
    )
    yield "index names too much", Alteration(split(lambda m: m | {"a": m[UP]}), "than the index says")
    yield "index is no object", Alteration(both(split(), text(INDEX, "[]")), "holds a list")
    # What shows when weights are read: the training is the first reader.


ALTERATIONS = dict(_alterations())
