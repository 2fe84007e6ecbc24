"""Reading texts with encoders, against transformers' pipelines and against arithmetic done by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_encoders import TEXTS, save_encoder

import germinal
from germinal.errors import CheckpointError, ContextWindowError, GerminalError, SettingError, UnsupportedError
from germinal.reading import reader, vectors

MakeEncoder = Callable[..., Path]
FAMILIES = ["Bert", "Roberta", "DistilBert"]


@pytest.fixture(scope="session")
def make_encoder(tmp_path_factory: pytest.TempPathFactory) -> MakeEncoder:
    return lambda kind, **config: save_encoder(tmp_path_factory.mktemp(kind.lower()), kind, **config)


def pipeline(task: str, folder: Path, **options: Any) -> Any:
    return transformers.pipeline(task, model=str(folder), tokenizer=str(folder), device="cpu", **options)


def hidden_states(folder: Path, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, T, D] and the mask, of transformers' own model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).last_hidden_state, inputs["attention_mask"]


def write_pooling(folder: Path, normalize: bool, **flags: Any) -> None:
    """The files of a sentence-transformers model."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(kinds, ["", "1_Pooling", "2_Normalize"], strict=False))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 24, **flags}))


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_pooled_hidden_states(make_encoder: MakeEncoder, family: str) -> None:
    folder = make_encoder(f"{family}Model")
    lm = germinal.load(folder)
    states, mask = hidden_states(folder, TEXTS)
    weights = mask[:, :, None]
    last = states[torch.arange(len(TEXTS)), mask.sum(1) - 1]
    expected = {
        "mean": (states * weights).sum(1) / weights.sum(1),
        "first": states[:, 0],
        "last": last,
        "max": states.masked_fill(weights == 0, -torch.inf).amax(1),
    }
    for pooling, vectors_expected in expected.items():
        np.testing.assert_allclose(lm.encode(TEXTS, pooling), vectors_expected.numpy(), atol=1e-5)
        lengths = np.linalg.norm(lm.encode(TEXTS, pooling, normalize=True), axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-6)
    assert lm.encode(TEXTS).dtype == np.float32
    np.testing.assert_allclose(lm.encode(TEXTS[0]), lm.encode(TEXTS)[:1], atol=1e-5)


def test_the_pooler_is_the_models_own(make_encoder: MakeEncoder) -> None:
    folder = make_encoder("BertModel")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).pooler_output
    np.testing.assert_allclose(germinal.load(folder).encode(TEXTS, "pooler"), expected.numpy(), atol=1e-5)


def test_batches_change_nothing_but_the_time(make_encoder: MakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = germinal.load(make_encoder("BertModel"))
    together = lm.encode(TEXTS * 5)
    monkeypatch.setattr(reader, "BATCH_TOKENS", 1)
    np.testing.assert_allclose(lm.encode(TEXTS * 5), together, atol=1e-5)
    assert lm.encode([]).shape == (0, 24)


@pytest.mark.parametrize(
    ("flags", "normalize", "pooling"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, True, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, False, "first"),
        ({"pooling_mode_lasttoken": True}, True, "last"),
        ({"pooling_mode": "max"}, False, "max"),
    ],
)
def test_pooling_is_read_written_and_read_again(
    make_encoder: MakeEncoder, tmp_path: Path, flags: dict[str, Any], normalize: bool, pooling: str
) -> None:
    folder = make_encoder("BertModel")
    write_pooling(folder, normalize, **flags)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 30, "do_lower_case": False}))
    lm = germinal.load(folder)
    np.testing.assert_array_equal(lm.encode(TEXTS), lm.encode(TEXTS, pooling, normalize))
    again = germinal.load(lm.save(tmp_path / "saved"))
    assert again.head_config == lm.head_config
    np.testing.assert_array_equal(again.encode(TEXTS), lm.encode(TEXTS))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda f: write_pooling(f, False, pooling_mode="median"), UnsupportedError, "'median' is not supported"),
        (lambda f: write_pooling(f, False, pooling_mode=["mean", 3]), UnsupportedError, "is not supported"),
        (lambda f: (f / "modules.json").write_text("{}"), CheckpointError, "list of objects"),
        (
            lambda f: (f / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense"}]'),
            UnsupportedError,
            "Dense",
        ),
        (
            lambda f: (f / "modules.json").write_text('[{"type": "sentence_transformers.models.WordWeights"}]'),
            UnsupportedError,
            "WordWeights",
        ),
        (
            lambda f: (f / "modules.json").write_text((f / "modules.json").read_text().replace("Pooling", "Normalize")),
            UnsupportedError,
            "in an unsupported order",
        ),
        (
            lambda f: (f / "config_sentence_transformers.json").write_text('{"default_prompt_name": "title"}'),
            CheckpointError,
            "no prompt 'title'",
        ),
        (
            lambda f: (f / "config_sentence_transformers.json").write_text('{"truncate_dim": -1}'),
            CheckpointError,
            "truncate_dim: must be a positive whole number",
        ),
        (
            lambda f: (f / "sentence_bert_config.json").write_text('{"tokenizer_args": {"do_basic_tokenize": false}}'),
            UnsupportedError,
            "tokenizer_args sets 'do_basic_tokenize'",
        ),
        (
            lambda f: (f / "sentence_bert_config.json").write_text('{"transformer_task": "fill-mask"}'),
            UnsupportedError,
            "transformer_task",
        ),
        (lambda f: (f / "1_Pooling" / "config.json").unlink(), CheckpointError, r"config\.json"),
    ],
)
def test_pooling_that_is_not_known_is_refused(
    make_encoder: MakeEncoder, spoil: Callable[[Path], Any], error: type[GerminalError], message: str
) -> None:
    folder = make_encoder("BertModel")
    write_pooling(folder, True, pooling_mode_mean_tokens=True)
    spoil(folder)
    with pytest.raises(error, match=message):
        germinal.load(folder)


def test_decoders_and_encoder_decoders_have_vectors_too(llama_folder: Path) -> None:
    states, mask = hidden_states(llama_folder, TEXTS[:1])
    expected = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    np.testing.assert_allclose(germinal.load(llama_folder).encode(TEXTS[:1]), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_classes_are_the_pipelines(make_encoder: MakeEncoder, family: str) -> None:
    names = {0: "bad", 1: "good", 2: "so-so"}
    folder = make_encoder(
        f"{family}ForSequenceClassification", id2label=names, label2id={v: k for k, v in names.items()}
    )
    found = germinal.load(folder).classify(TEXTS)
    for ours, theirs in zip(found, pipeline("text-classification", folder, top_k=None)(TEXTS), strict=True):
        assert ours.label == theirs[0]["label"]
        for each in theirs:
            assert ours.probabilities[each["label"]] == pytest.approx(each["score"], abs=1e-5)
        assert sum(ours.probabilities.values()) == pytest.approx(1)


def test_pairs_regressions_and_labels_that_do_not_exclude_each_other(make_encoder: MakeEncoder) -> None:
    pair = (TEXTS[0], TEXTS[2])
    folder = make_encoder("BertForSequenceClassification", num_labels=1, problem_type="regression")
    (score,) = pipeline("text-classification", folder, top_k=None)([{"text": pair[0], "text_pair": pair[1]}])
    found = germinal.load(folder).classify(pair)
    assert (found.label, found.probabilities) == (None, {})
    assert found.value == pytest.approx(score[0]["score"], abs=1e-5)

    folder = make_encoder("RobertaForSequenceClassification", num_labels=3, problem_type="multi_label_classification")
    (scores,) = pipeline("text-classification", folder, top_k=None)([{"text": pair[0], "text_pair": pair[1]}])
    found = germinal.load(folder).classify(pair)
    assert {each["label"]: pytest.approx(each["score"], abs=1e-5) for each in scores} == found.probabilities


@pytest.mark.parametrize("family", FAMILIES)
def test_words_and_spans_are_the_pipelines(make_encoder: MakeEncoder, family: str) -> None:
    names = dict(enumerate(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]))
    folder = make_encoder(f"{family}ForTokenClassification", id2label=names, label2id={v: k for k, v in names.items()})
    peer = pipeline("token-classification", folder, aggregation_strategy="first")
    spans = 0
    lm = germinal.load(folder)
    # A space that is a token of its own counts as a word there, and as the first token of its word here.
    texts = [text for text in TEXTS if "Ġ" not in lm.tokenizer.pieces(lm.tokenizer.encode(text))]
    for ours, text in zip(lm.classify(texts), texts, strict=True):
        theirs = [(each["start"], each["end"], each["entity_group"], each["score"]) for each in peer(text)]
        found = [(each.start, each.end, each.label, each.probability) for each in ours.spans]
        assert [each[:3] for each in found] == [each[:3] for each in theirs]
        np.testing.assert_allclose([each[3] for each in found], [each[3] for each in theirs], atol=1e-5)
        assert all(text[word.start : word.end] == word.text for word in ours.words)
        assert "".join(word.text for word in ours.words) == text.replace(" ", "")
        spans += len(found)
    assert spans > 2


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_is_the_likeliest_span(make_encoder: MakeEncoder, family: str) -> None:
    folder = make_encoder(f"{family}ForQuestionAnswering")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    question, context = "What is warm?", "A film that is warm, funny and true, the acting on with as it was for."
    inputs = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    offsets = inputs.pop("offset_mapping")[0].tolist()
    places = [place for place, sequence in enumerate(inputs.sequence_ids()) if sequence == 1]
    with torch.no_grad():
        output = model(**inputs)
    starts, ends = (logits[0, places].softmax(-1) for logits in (output.start_logits, output.end_logits))
    likelihood, first, last = max(
        (float(starts[i] * ends[j]), i, j) for i in range(len(places)) for j in range(i, min(len(places), i + 15))
    )
    found = germinal.load(folder).answer(question, context)
    assert found.probability == pytest.approx(likelihood, abs=1e-5)
    assert found.start <= offsets[places[first]][0] <= offsets[places[last]][1] <= found.end
    assert found.text == context[found.start : found.end]
    # SQuAD 2.0's score of "no answer" against that of the span (BERT's run_squad: score_null - best non-null).
    null = float(output.start_logits[0, 0] + output.end_logits[0, 0])
    best = float(output.start_logits[0, places[first]] + output.end_logits[0, places[last]])
    assert found.no_answer == pytest.approx(1 / (1 + math.exp(best - null)), abs=1e-5)


def test_a_long_passage_is_read_in_windows(make_encoder: MakeEncoder) -> None:
    lm = germinal.load(make_encoder("BertForQuestionAnswering"))
    passage = "Nobody should miss it. " * 60 + "A film that is warm, funny and true."
    found = lm.answer("What is warm?", passage)
    assert found.text == passage[found.start : found.end] != ""
    with pytest.raises(ContextWindowError, match="no room is left for the passage"):
        lm.answer("warm " * 90, passage)


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_are_filled_as_the_pipeline_does(make_encoder: MakeEncoder, family: str) -> None:
    folder = make_encoder(f"{family}ForMaskedLM")
    lm = germinal.load(folder)
    mask = lm.tokenizer.special_tokens["mask_token"]
    peer = pipeline("fill-mask", folder)
    for text in (f"A film that is {mask}, funny and true.", f"{mask} loved this {mask}!"):
        theirs = peer(text, top_k=4)
        expected = theirs if isinstance(theirs[0], list) else [theirs]
        found = lm.fill_mask(text, top_k=4)
        assert len(found) == len(expected) == text.count(mask)
        for ours, each in zip(found, expected, strict=True):
            assert [word.token_id for word in ours] == [guess["token"] for guess in each]
            assert [word.text for word in ours] == [guess["sequence"] for guess in each]
            np.testing.assert_allclose([w.probability for w in ours], [guess["score"] for guess in each], atol=1e-5)


def test_what_a_model_cannot_do_is_refused_by_name(make_encoder: MakeEncoder, llama_folder: Path) -> None:
    masked = germinal.load(make_encoder("BertForMaskedLM"))
    classifier = germinal.load(make_encoder("BertForSequenceClassification"))
    decoder = germinal.load(llama_folder)
    bare = germinal.load(make_encoder("DistilBertModel"))
    refused: list[tuple[Callable[[], Any], str]] = [
        (lambda: masked.generate("A film"), "cannot generate.*masked-language-model head"),
        (lambda: next(masked.stream("A film")), "cannot generate"),
        (lambda: masked.score("A film", [" good"]), "cannot generate or score"),
        (lambda: masked.classify("A film"), "cannot classify"),
        (lambda: classifier.fill_mask("A [MASK]"), "cannot fill masks.*head for sequence classification"),
        (lambda: classifier.logits([[1, 2]]), "cannot give the logits"),
        (lambda: classifier.answer("Who?", "A film"), "cannot answer questions"),
        (lambda: decoder.classify("A film"), "cannot classify.*language-model head"),
        (lambda: decoder.fill_mask("A [MASK]"), "cannot fill masks"),
        (lambda: bare.encode("A film", "pooler"), "cannot pool with a pooler.*no head"),
    ]
    for attempt, message in refused:
        with pytest.raises(UnsupportedError, match=message):
            attempt()
    with pytest.raises(SettingError, match=r"Write \[MASK\]"):
        masked.fill_mask("A film")
    with pytest.raises(SettingError, match="top_k"):
        masked.fill_mask("A [MASK]", 0)
    with pytest.raises(SettingError, match=r"unknown.*Did you mean 'mean'"):
        masked.encode("A film", "meen")
    with pytest.raises(SettingError, match="text 2 of 2: is not a text"):
        masked.encode(["A film", 3])  # type: ignore[list-item]


def test_more_tokens_than_positions_are_refused(make_encoder: MakeEncoder) -> None:
    lm = germinal.load(make_encoder("RobertaForMaskedLM"))
    assert lm.config.max_position_embeddings == 80
    ids = lm.tokenizer.encode("film " * 40)[:80]
    lm.logits([ids])
    with pytest.raises(ContextWindowError, match="81 tokens"):
        lm.logits([[*ids, 5]])
    with pytest.raises(ContextWindowError, match=r"text 2 of 2: has \d+ tokens.*reads 80"):
        lm.encode(["A film", "film " * 120])


def test_labels_survive_saving(make_encoder: MakeEncoder, tmp_path: Path) -> None:
    names = {0: "bad", 1: "good"}
    folder = make_encoder("DistilBertForSequenceClassification", id2label=names, label2id={"bad": 0, "good": 1})
    lm = germinal.load(folder)
    saved = lm.save(tmp_path / "saved")
    assert germinal.load(saved).classify(TEXTS[0]) == lm.classify(TEXTS[0])
    (theirs,) = pipeline("text-classification", saved, top_k=None)([TEXTS[0]])
    assert {each["label"]: pytest.approx(each["score"], abs=1e-5) for each in theirs} == lm.classify(
        TEXTS[0]
    ).probabilities
    assert "pipeline_tag: text-classification" in (saved / "README.md").read_text()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {"0": "bad", "2": "good"}}))
    with pytest.raises(CheckpointError, match="id2label"):
        germinal.load(folder)


def test_similarities_are_cosines() -> None:
    found = vectors.similarities(np.array([[3, 0], [0, 2], [1, 1], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(found[0], [1, 0, 0.5**0.5, 0], atol=1e-6)
    np.testing.assert_allclose(found, found.T)
