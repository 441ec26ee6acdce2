"""Whatever is altered in a model's folder, it trains, or it is refused before its weights are copied.

Each is tried in a process of its own, which takes seconds, so the tests take some of them;
`python -m tests.models.test_altered_models` takes all, and to the end those that are not refused.
"""

import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from components.data.samples import tokenize
from components.evaluate import answering
from components.evaluate.kept import Kept
from components.models.configuration import as_list
from components.models.reference import find_model
from components.models.stops import PROBE, stop_tokens
from components.run.training_options import TrainingOptions
from components.shared.problems import Problems
from components.shared.storage import read_json
from components.training.loading import load
from tests.altered_models import ALTERATIONS, alter, write_good_model
from tests.whole_run import take, train_and_evaluate, write_dataset

REFUSED = [name for name, one in ALTERATIONS.items() if one.said]
ACCEPTED = [name for name, one in ALTERATIONS.items() if not one.said]
TO_THE_END = ["tied with a copy", "end of another token", "buffers of older files", "two files"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good_model(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


def test_there_are_many() -> None:
    assert len(REFUSED) > 100
    assert len(ACCEPTED) > 30


@pytest.mark.parametrize("name", REFUSED[::6])
def test_model_that_cannot_be_trained_is_refused_before_its_weights_are_copied(
    good: Path, tmp_path: Path, name: str
) -> None:
    model = alter(good, tmp_path / "model", name)

    with pytest.raises(Problems) as caught:
        take(model, tmp_path)

    assert ALTERATIONS[name].said in str(caught.value)
    assert len(str(caught.value)) < 2500
    assert str(model) in str(caught.value) or "chat_template" in str(caught.value)
    assert not list((tmp_path / "workspace").rglob("*.safetensors"))


@pytest.mark.parametrize("name", sorted(set(ACCEPTED) - set(TO_THE_END))[::6])
def test_model_that_is_not_refused_is_loaded_and_answers(good: Path, tmp_path: Path, name: str) -> None:
    folder = find_model(take(alter(good, tmp_path / "model", name), tmp_path), tmp_path / "workspace")

    trained = load(folder, TrainingOptions(), torch.device("cpu"), torch.float32, "sdpa")
    model, tokenizer = answering.load(folder)
    tokens = torch.tensor([tokenize(PROBE, tokenizer).tokens])

    assert trained(tokens).logits.isfinite().all()
    assert model(tokens).logits.isfinite().all()
    assert answering.answer(model, tokenizer, "Be brief.", ["What?", "Which bird?"], 4, "it", Kept(None), "")


@pytest.mark.parametrize("name", TO_THE_END)
def test_unusual_model_is_trained_and_evaluated(good: Path, dataset: Path, tmp_path: Path, name: str) -> None:
    adapted = train_and_evaluate(take(alter(good, tmp_path / "model", name), tmp_path), dataset, tmp_path)

    _, tokenizer = answering.load(adapted)
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in stop_tokens(adapted, tokenizer)
    assert as_list(read_json(adapted / "generation_config.json")["eos_token_id"]) == stop_tokens(adapted, tokenizer)


def main() -> None:
    late = 0
    with tempfile.TemporaryDirectory() as root:
        good, dataset = write_good_model(Path(root) / "good"), write_dataset(Path(root) / "data")
        for number, (name, one) in enumerate(ALTERATIONS.items()):
            started, folder = time.monotonic(), Path(root) / str(number)
            folder.mkdir()
            model = alter(good, folder / "model", name)
            try:
                taken = take(model, folder)
            except Problems as error:
                fits = bool(one.said) and one.said in str(error)
                ended = "refused" if fits else f"REFUSED OTHERWISE: {error}"
                late += not fits
            else:
                try:
                    train_and_evaluate(taken, dataset, folder)
                    ended = "trained and evaluated" if not one.said else "NOT REFUSED"
                    late += bool(one.said)
                except Exception as error:
                    late += 1
                    ended = f"LATE: {type(error).__name__}: {error}"
            print(f"{name}: {ended}, {time.monotonic() - started:.0f} s", file=sys.stderr)
    sys.exit(f"{late} of {len(ALTERATIONS)} ended otherwise" if late else 0)


if __name__ == "__main__":
    main()
