"""The converted model is the model: it answers."""

from components.data.questions import read_retention_questions
from components.evaluate.answering import answer, load
from components.evaluate.kept import Kept
from components.evaluate.likelihood import choose
from components.grading.reference_rules import is_right
from components.models.folder import check_model_folder

QUESTIONS = {
    "What is the capital of France?": "Paris",
    "What is the opposite of hot?": "cold",
    "How many days are there in a week?": "7",
    "Which planet do we live on?": "Earth",
}


def test_the_converted_model_answers_general_questions(smollm2):
    model, tokenizer = load(smollm2)

    answers = [one.text for one in answer(model, tokenizer, "", list(QUESTIONS), 24, "SmolLM2", Kept(None), "")]

    verdicts = [is_right(q, reference, a) for (q, reference), a in zip(QUESTIONS.items(), answers, strict=True)]
    assert "Paris" in answers[0]
    assert sum(verdicts) >= 3, answers


def test_the_converted_model_knows_what_the_retention_set_asks(smollm2):
    model, tokenizer = load(smollm2)
    asked = [entry for entry in read_retention_questions("") if entry["choices"]][::20]
    questions = [(entry["question"], entry["choices"]) for entry in asked]

    chosen = choose(model, tokenizer, "", questions, "SmolLM2")

    assert sum(index == 0 for index in chosen) >= 6, chosen  # of 13; by chance 3.25


def test_the_converted_folder_has_what_a_snapshot_needs(smollm2):
    assert "model.safetensors" in check_model_folder(smollm2)
