"""The pipeline: exact offsets in whatever text, the same result however the texts are given, clear errors."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from common import ENCODERS
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, WordPiece
from transformers import BertForSequenceClassification, PreTrainedTokenizerFast, pipeline, set_seed
from transformers.pipelines.pt_utils import KeyDataset

from hf_rationale import (
    RationaleClassificationPipeline,
    RationaleConfig,
    RationaleForSequenceClassification,
    encode_rationale_dataset,
    word_level_tokenizer,
)
from hf_rationale.text.pipeline import rationale_spans


WORDS = ["the", "beer", "is", "good", "not", "smells", "of", "a", "head", "thick", "white", "n't", "does"]
MAX_LENGTH = 48

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # one picture, three people and two joiners
NASTY = {
    "plain": "The beer is not good, it smells of a thick white head!",
    "emoji": f"Good beer {FAMILY} \U0001f44d\U0001f3fd and \u2764\ufe0f head \U0001f1e9\U0001f1ea.",
    "combining": "Cafe\u0301 beer, na\u0308ive a\u0316\u0301b, \u1112\u1161\u11ab head",
    "right to left": "\u05d4\u05d1\u05d9\u05e8\u05d4 beer \u0627\u0644\u0628\u0650\u064a\u0631\u0629",
    "CJK": "这啤酒很好喝。 beer ビールがおいしい",
    "blanks": "\t  the\nbeer\r\n\r\nis   good \u3000 head\u2003\n",
    "no-break space": "\u00a0the\u00a0beer\u202fis good\u00a0",
    "invisible": "the\u200bbeer \u00ad is\ufeff good \u2060 head",
    "control": "the\x00 beer \x1f is \x07good",
    "special tokens": "the [SEP] beer <s> is [PAD] good </s> [CLS] <pad> head",
    "one letter": "a",
    "one emoji": "\U0001f600",
    "punctuation": "...!!! -- 'n't' ``a''",
    "long word": "good" * 12,
    "ligatures": "ﬁne ½ Straße İstanbul ǅ Å",
}


def word_piece() -> PreTrainedTokenizerFast:
    letters = "abcdefghijklmnopqrstuvwxyz.,!'"
    special = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
    pieces = dict.fromkeys([*special, *letters, *(f"##{letter}" for letter in letters), *WORDS, "##er"])
    tokenizer = Tokenizer(WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def byte_level() -> PreTrainedTokenizerFast:
    merges = [("t", "h"), ("th", "e"), ("Ġ", "b"), ("e", "r"), ("o", "o"), ("g", "oo"), ("Ġ", "goo")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


TOKENIZERS = {"gru": lambda: word_level_tokenizer(WORDS), "bert": word_piece, "roberta": byte_level}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_training_and_asking_read_the_same_tokens(name):
    """Word by word, a byte-level tokenizer would miss the blanks that it sees in running text."""
    tokenizer = TOKENIZERS[name]()
    words = ["the", "good", "beer", "is", "n't", "übel", ",", "\xa0", "ok"]
    row = encode_rationale_dataset(Dataset.from_dict({"tokens": [words]}), tokenizer)[0]
    encoding = tokenizer(" ".join(words))
    assert row["input_ids"] == encoding["input_ids"]
    starts = [sum(len(word) + 1 for word in words[:index]) for index in range(len(words) + 1)]
    for word, (start, end), special in zip(
        row["word_ids"], encoding.encodings[0].offsets, encoding.encodings[0].special_tokens_mask, strict=True
    ):
        assert special == (word == -1)
        if not special:
            assert starts[word] - 1 <= start and end <= starts[word + 1]


def make_pipeline(encoder: str, level: str = "word", side: str = "right") -> RationaleClassificationPipeline:
    tokenizer = TOKENIZERS[encoder]()
    tokenizer.padding_side = side
    config = ENCODERS[encoder].config()
    config.vocab_size = len(tokenizer)
    if encoder != "gru":
        config.max_position_embeddings = MAX_LENGTH + 2 * (encoder == "roberta")
    set_seed(1)
    model = RationaleForSequenceClassification(
        RationaleConfig(
            extractor_config=config,
            predictor_config=config,
            selection_level=level,
            special_token_ids=sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}),
            initializer_range=0.5,
            id2label={0: "negative", 1: "positive", 2: "neutral"},
        )
    )
    return pipeline("rationale-classification", model=model.eval(), tokenizer=tokenizer)


@pytest.fixture(scope="module", params=[(e, level) for e in TOKENIZERS for level in ("token", "word")], ids="-".join)
def pipe(request) -> RationaleClassificationPipeline:
    return make_pipeline(*request.param)


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def word_pipe(request) -> RationaleClassificationPipeline:
    return make_pipeline(request.param)


@pytest.fixture(scope="module")
def bert_pipe() -> RationaleClassificationPipeline:
    return make_pipeline("bert")


def assert_same(result: dict, expected: dict, tolerance: float = 1e-5):
    """The same result, but for the rounding of scores."""

    def rounded_out(value: dict) -> dict:
        spans = [{k: v for k, v in span.items() if k != "score"} for span in value["rationale"]]
        return {k: v for k, v in value.items() if k != "score"} | {"rationale": spans}

    assert rounded_out(result) == rounded_out(expected)
    assert result["score"] == pytest.approx(expected["score"], abs=tolerance)
    for span, other in zip(result["rationale"], expected["rationale"], strict=True):
        assert span["score"] == pytest.approx(other["score"], abs=tolerance)


# --- Spans ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_spans_are_exactly_in_the_text(pipe, text: str):
    for ratio in (0.1, 0.3, 0.6, 1.0):
        result = pipe(text, rationale_ratio=ratio)
        assert list(result) == ["label", "score", "rationale", "sparsity", "truncated"]
        assert result["label"] in ("negative", "positive", "neutral")
        assert 0 < result["score"] <= 1
        assert 0 <= result["sparsity"] <= 1
        end = 0
        for span in result["rationale"]:
            assert list(span) == ["start", "end", "text", "score"]
            assert text[span["start"] : span["end"]] == span["text"] != ""
            assert span["text"] == span["text"].strip()
            assert end <= span["start"]
            assert 0 < span["score"] < 1
            end = span["end"]
        json.dumps(result)


def test_all_of_a_text_is_one_span(pipe):
    for name in ("plain", "CJK", "blanks", "right to left"):
        text = NASTY[name][:15]
        result = pipe(text, rationale_ratio=1.0)
        assert [span["text"] for span in result["rationale"]] == [text.strip()]
        assert result["sparsity"] == 1.0


def test_a_letter_keeps_its_accents(pipe):
    text = "beer Cafe\u0301"
    (span,) = pipe(text, rationale_ratio=1.0)["rationale"]
    assert span["text"] == text


@pytest.mark.parametrize("encoder, special", [("bert", "[SEP]"), ("roberta", "</s>"), ("gru", "[SEP]")])
def test_a_special_token_in_the_text_is_neither_selected_nor_counted(encoder: str, special: str):
    text = f"good {special} the beer"
    result = make_pipeline(encoder)(text, rationale_ratio=1.0)
    assert [span["text"] for span in result["rationale"]] == ["good", "the beer"]
    assert result["sparsity"] == 1.0


@pytest.mark.parametrize(
    "text, tokens, expected",
    {
        "neighbours join": ("one two three", [(0, 3, 1), (4, 7, 1), (8, 13, 0)], [(0, 7)]),
        "a gap parts": ("one two three", [(0, 3, 1), (4, 7, 0), (8, 13, 1)], [(0, 3), (8, 13)]),
        "nothing": ("one two", [(0, 3, 0), (4, 7, 0)], []),
        "no tokens": ("one", [], []),
        "everything": ("one two", [(0, 3, 1), (4, 7, 1)], [(0, 7)]),
        "blanks in tokens": ("a  b c", [(0, 1, 0), (1, 4, 1), (4, 6, 0)], [(3, 4)]),
        "a token of blanks": ("a \t b", [(0, 1, 0), (1, 3, 1), (4, 5, 0)], []),
        "bytes of one character": ("x\U0001f600y", [(0, 1, 0), (1, 2, 1), (1, 2, 1), (1, 2, 1), (2, 3, 0)], [(1, 2)]),
        "some bytes of a character": ("\U0001f600", [(0, 1, 1), (0, 1, 0), (0, 1, 1)], [(0, 1)]),
        "bytes of neighbours": (
            "\U0001f600\U0001f601",
            [(0, 1, 0), (0, 1, 1), (1, 2, 0), (1, 2, 1)],
            [(0, 1), (1, 2)],
        ),
        "an accent left out": ("cafe\u0301 x", [(0, 4, 1), (6, 7, 0)], [(0, 5)]),
        "an accent that is a token": ("e\u0301", [(0, 1, 1), (1, 2, 0)], [(0, 1)]),
        "Hangul left out": ("\u1112\u1161\u11ab x", [(0, 1, 1), (4, 5, 0)], [(0, 3)]),
    }.values(),
)
def test_rationale_spans(text, tokens, expected):
    spans = rationale_spans(
        text, [token[:2] for token in tokens], [bool(token[2]) for token in tokens], [0.5] * len(tokens)
    )
    assert [(span["start"], span["end"]) for span in spans] == expected
    assert all(span["text"] == text[span["start"] : span["end"]] for span in spans)


def test_a_span_has_the_mean_score_of_its_tokens():
    spans = rationale_spans("a b c d", [(0, 1), (2, 3), (4, 5), (6, 7)], [True, True, False, True], [0.2, 0.4, 1, 0.9])
    assert [span["score"] for span in spans] == pytest.approx([0.3, 0.9])


# --- Budgets and labels --------------------------------------------------------------------------------------------


def test_budgets_at_call_time(word_pipe):
    text = "the beer is not good"
    for count in range(6):
        result = word_pipe(text, rationale_top_k=count)
        assert sum(len(span["text"].split()) for span in result["rationale"]) == count
        assert result["sparsity"] == pytest.approx(count / 5)
    assert word_pipe(text, rationale_ratio=0.4)["sparsity"] == pytest.approx(0.4)
    assert word_pipe(text, rationale_threshold=0.0)["sparsity"] == 1.0
    assert word_pipe(text, rationale_threshold=1.0)["rationale"] == []
    default = word_pipe(text)
    assert_same(word_pipe(text, rationale_ratio=word_pipe.model.config.sparsity), default, tolerance=0)
    by_threshold = pipeline(
        "rationale-classification", model=copy.deepcopy(word_pipe.model), tokenizer=word_pipe.tokenizer
    )
    by_threshold.model.config.decoding = "threshold"
    threshold = by_threshold.model.config.rationale_threshold
    assert_same(by_threshold(text), word_pipe(text, rationale_threshold=threshold), tolerance=0)


def test_a_budget_at_call_time_replaces_the_pipelines_own(bert_pipe):
    own = pipeline(
        "rationale-classification", model=bert_pipe.model, tokenizer=bert_pipe.tokenizer, rationale_ratio=0.2
    )
    text = "the beer is not good"
    assert own(text)["sparsity"] == pytest.approx(0.2)
    assert own(text, rationale_ratio=0.6)["sparsity"] == pytest.approx(0.6)
    assert own(text, rationale_top_k=2)["sparsity"] == pytest.approx(0.4)
    assert own(text)["sparsity"] == pytest.approx(0.2)


@pytest.mark.parametrize("encoder", TOKENIZERS)
def test_units_are_chosen_at_call_time(encoder: str):
    pipe, text = make_pipeline(encoder, "word"), "good, not bad. a head"
    pieces = {"clause": ["good,", "not bad.", "a head"], "sentence": ["good, not bad.", "a head"]}
    for level, expected in pieces.items():
        (span,) = pipe(text, rationale_level=level, rationale_top_k=1)["rationale"]
        assert span["text"] in expected
        assert text[span["start"] : span["end"]] == span["text"]
    assert len(pipe(text, rationale_level="word", rationale_top_k=1)["rationale"][0]["text"].split()) == 1
    (span,) = pipe(text, segment=lambda text: [(0, 9), (9, len(text))], rationale_top_k=1)["rationale"]
    assert span["text"] in ("good, not", "bad. a head")
    with pytest.raises(ValueError, match=r"rationale_level must be one of .* but is 'paragraph'"):
        pipe(text, rationale_level="paragraph")


def test_top_k(bert_pipe):
    best = bert_pipe("the beer is good")
    for top_k in (1, 2, 3, 99):
        results = bert_pipe("the beer is good", top_k=top_k)
        assert len(results) == min(top_k, 3)
        assert results[0] == best
        scores = [result["score"] for result in results]
        assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1)
    assert {result["label"] for result in results} == {"negative", "positive", "neutral"}
    assert all(result["rationale"] == best["rationale"] for result in results)
    batch = bert_pipe(["the beer", "is good"], top_k=2)
    assert [len(results) for results in batch] == [2, 2]


# --- However the texts are given -----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("level", ["token", "word"])
@pytest.mark.parametrize("encoder", TOKENIZERS)
def test_a_batch_gives_what_single_texts_give(encoder: str, level: str, side: str):
    pipe, texts = make_pipeline(encoder, level, side), list(NASTY.values())
    for budget in ({}, {"rationale_ratio": 0.3}):
        single = [pipe(text, **budget) for text in texts]
        for result, expected in zip(pipe(texts, batch_size=4, **budget), single, strict=True):
            assert_same(result, expected)


def test_lists_generators_and_datasets(word_pipe):
    texts = ["the beer is good", "not good", "smells of a thick white head"]
    expected = [word_pipe(text) for text in texts]
    dataset = KeyDataset(Dataset.from_dict({"text": texts}), "text")
    for given in (texts, (text for text in texts), dataset):
        results = list(word_pipe(given, batch_size=2))
        for result, single in zip(results, expected, strict=True):
            assert_same(result, single)
    assert word_pipe([]) == []


@pytest.mark.parametrize("kind", ["column", "dataset", "formatted", "tuple", "array", "series", "dicts"])
def test_whatever_holds_texts_is_read(word_pipe, kind: str):
    texts = ["the beer was lovely .", "an awful beer"]
    rows = Dataset.from_dict({"text": texts, "label": [1, 0]})
    inputs = {
        "column": rows["text"],
        "dataset": rows,
        "formatted": rows.with_format("numpy"),
        "tuple": tuple(texts),
        "array": np.array(texts),
        "series": pd.Series(texts),
        "dicts": [{"text": text} for text in texts],
    }[kind]
    assert word_pipe(inputs) == word_pipe(texts)


def test_a_dataset_of_pairs(word_pipe):
    pairs = [
        {"text": "what beer", "text_pair": "the beer was lovely ."},
        {"text": "who", "text_pair": "an awful beer"},
    ]
    assert word_pipe(Dataset.from_list(pairs)) == word_pipe(pairs)
    with pytest.raises(ValueError, match="needs a column 'text'"):
        word_pipe(Dataset.from_dict({"words": ["a"]}))


def test_top_k_none_returns_all_labels(bert_pipe):
    results = bert_pipe("the beer was lovely .", top_k=None)
    assert len(results) == bert_pipe.model.config.num_labels
    assert results == bert_pipe("the beer was lovely .", top_k=99)


def test_texts_are_cut_if_asked_for(bert_pipe):
    text = "the beer was lovely . " * 20
    whole, cut = bert_pipe(text), bert_pipe(text, max_length=12)
    assert not whole["truncated"] and cut["truncated"]
    assert all(span["end"] <= len(text) // 4 for span in cut["rationale"])
    readable = text[: len("the beer was lovely . the beer was lovely .")]
    assert bert_pipe(readable, max_length=12) | {"truncated": True} == cut
    assert bert_pipe(text, truncation=False, max_length=12) == bert_pipe(text, truncation=None) == whole
    assert not bert_pipe("the beer", max_length=12)["truncated"]
    pair = {"text": "what beer", "text_pair": text}
    assert bert_pipe(pair, max_length=14)["truncated"]
    with pytest.raises(ValueError, match="leaves no room"):
        bert_pipe(pair, max_length=3)


def test_pairs(word_pipe):
    pair = {"text": "is the beer good", "text_pair": "It smells of beer, not of a head"}
    everything = word_pipe(pair, rationale_ratio=1.0)
    assert [span["text"] for span in everything["rationale"]] == [pair["text_pair"]]
    assert everything["sparsity"] == 1.0
    for span in word_pipe(pair, rationale_ratio=0.4)["rationale"]:
        assert pair["text_pair"][span["start"] : span["end"]] == span["text"]
    # The query is always read.
    other = word_pipe({**pair, "text": "does a white head n't"}, rationale_ratio=1.0)
    assert other["score"] != pytest.approx(everything["score"], abs=1e-4)
    short = {"text": "good", "text_pair": "the beer"}
    batch = word_pipe([pair, short], batch_size=2)
    assert_same(batch[0], word_pipe(pair))
    assert_same(batch[1], word_pipe(short))


# --- Long texts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", TOKENIZERS)
def test_long_texts_are_read_as_a_whole(encoder: str):
    pipe = make_pipeline(encoder)
    text = "the beer is good " * 60
    result, short = pipe([text, "the beer"], rationale_ratio=1.0, batch_size=2)
    assert [span["text"] for span in result["rationale"]] == [text.strip()]
    assert not result["truncated"]
    assert_same(short, pipe("the beer", rationale_ratio=1.0))
    if encoder != "gru":
        with pytest.raises(ValueError, match="A query leaves no room for its text within 48 tokens"):
            pipe({"text": "beer " * 100, "text_pair": "good"})
    pair = pipe({"text": "is the beer good", "text_pair": text}, rationale_ratio=1.0)
    assert [span["text"] for span in pair["rationale"]] == [text.strip()]


def test_a_gru_reads_texts_of_any_length():
    result = make_pipeline("gru")("the beer is good " * 500, rationale_ratio=1.0)
    assert not result["truncated"]
    assert result["sparsity"] == 1.0


# --- Saving, loading, the stock pipeline ---------------------------------------------------------------------------


def test_saved_and_loaded(pipe, tmp_path):
    texts = list(NASTY.values())
    pipe.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.py")] == ["rationale_model.py"]
    assert not list(tmp_path.glob("*.bin"))
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())
    for loaded in (
        pipeline("rationale-classification", model=tmp_path),
        pipeline("rationale-classification", model=str(tmp_path), tokenizer=str(tmp_path)),
    ):
        assert isinstance(loaded, RationaleClassificationPipeline)
        for result, expected in zip(loaded(texts), pipe(texts), strict=True):
            assert result["label"] == expected["label"]
            assert result["score"] == pytest.approx(expected["score"], abs=1e-6)
            for span, other in zip(result["rationale"], expected["rationale"], strict=True):
                assert span == {**other, "score": pytest.approx(other["score"], abs=1e-6)}


@pytest.mark.parametrize("encoder", TOKENIZERS)
def test_the_stock_pipeline_reads_the_model(encoder: str, tmp_path):
    ours = make_pipeline(encoder, "token")
    ours.save_pretrained(tmp_path)
    texts = ["the beer is good", "not good", "smells of a thick white head"]
    stock = pipeline("text-classification", model=tmp_path)
    for result, expected in zip(stock(texts, batch_size=2), ours(texts), strict=True):
        assert result["label"] == expected["label"]
        assert result["score"] == pytest.approx(expected["score"], abs=1e-5)


# --- Bad input -----------------------------------------------------------------------------------------------------

BAD_TEXTS = {
    "None": (None, TypeError, "must be a string, but is of type NoneType"),
    "a number": (3, TypeError, "must be a string, but is of type int: 3"),
    "bytes": (b"beer", TypeError, "must be a string, but is of type bytes"),
    "a list of words": (["the", "beer"], TypeError, "must be a string, but is of type list"),
    "empty": ("", ValueError, "is blank, so nothing can be selected"),
    "blank": (" \t\n\u00a0\u3000", ValueError, "is blank"),
    "a lone surrogate": ("good \ud83d beer", ValueError, "is not valid Unicode .*at character 5"),
    "a pair with other keys": ({"query": "a", "document": "b"}, ValueError, "a dict must have the key 'text', and"),
    "half a pair": ({"text_pair": "a"}, ValueError, "a dict must have the key 'text', and"),
    "a pair with a blank": ({"text": "a", "text_pair": " "}, ValueError, "text_pair is blank"),
    "a pair with None": ({"text": None, "text_pair": "b"}, TypeError, "text must be a string"),
}


@pytest.mark.parametrize("text, error, message", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_bad_texts_are_named_before_anything_runs(bert_pipe, monkeypatch, text, error: type, message: str):
    def forward(*args, **kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr(bert_pipe.model, "forward", forward)
    with pytest.raises(error, match=rf"Text 2\W.*{message}|Text 2 {message}"):
        bert_pipe(["the beer", "is good", text, "head"], batch_size=1)
    if not isinstance(text, list):
        with pytest.raises(error, match=message):
            bert_pipe(text)
    with pytest.raises(error, match=message):
        list(bert_pipe(given for given in [text]))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"rationale_ratio": 2}, ValueError, r"rationale_ratio must be a number in \[0, 1\], but is 2"),
        ({"rationale_ratio": float("nan")}, ValueError, r"rationale_ratio must be a number in \[0, 1\], but is nan"),
        ({"rationale_ratio": "half"}, ValueError, r"rationale_ratio must be a number in \[0, 1\], but is 'half'"),
        ({"rationale_threshold": -1}, ValueError, r"rationale_threshold must .*\[0, 1\]"),
        ({"rationale_top_k": -1}, ValueError, r"rationale_top_k must be a whole number of at least 0"),
        ({"rationale_top_k": 2.5}, ValueError, r"rationale_top_k must be a whole number of at least 0"),
        ({"rationale_top_k": 2, "rationale_ratio": 0.2}, ValueError, r"Only one budget can be given"),
        ({"top_k": 0}, ValueError, r"top_k must be a whole number of at least 1, .*, but is 0"),
        ({"top_k": "all"}, ValueError, r"top_k must be .*, but is 'all'"),
        ({"top_k": True}, ValueError, r"top_k must be .*, but is True"),
        ({"sparsity": 0.2}, TypeError, r"Unknown arguments: \['sparsity'\]; there are"),
    ],
)
def test_bad_arguments_are_named(bert_pipe, arguments: dict, error: type, message: str):
    with pytest.raises(error, match=message):
        bert_pipe("the beer", **arguments)
    with pytest.raises(error, match=message):
        pipeline("rationale-classification", model=bert_pipe.model, tokenizer=bert_pipe.tokenizer, **arguments)


def test_an_adapter_is_to_be_merged_first(bert_pipe):
    adapter = LoraConfig(task_type="SEQ_CLS", target_modules=["query"])
    model = get_peft_model(copy.deepcopy(bert_pipe.model), adapter)
    with pytest.raises(ValueError, match=r"Merge the adapter first.*merge_and_unload"):
        pipeline("rationale-classification", model=model, tokenizer=bert_pipe.tokenizer)


def test_another_model_is_refused(bert_pipe):
    config = ENCODERS["bert"].config()
    with pytest.raises(
        ValueError, match=r"BertForSequenceClassification selects no rationale.*from_encoder_pretrained"
    ):
        pipeline(
            "rationale-classification",
            model=BertForSequenceClassification(config),
            tokenizer=bert_pipe.tokenizer,
        )


def test_a_slow_tokenizer_is_refused(bert_pipe, monkeypatch):
    monkeypatch.setattr(type(bert_pipe.tokenizer), "is_fast", False)
    with pytest.raises(ValueError, match="mapped to tokens by a fast tokenizer"):
        pipeline("rationale-classification", model=bert_pipe.model, tokenizer=bert_pipe.tokenizer)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        pipeline("rationale-classification", model=str(tmp_path / "nowhere"))


def test_the_pipeline_keeps_no_gradient(bert_pipe):
    inputs = bert_pipe.preprocess("the beer")
    assert not bert_pipe.forward(inputs)["logits"].requires_grad
    assert torch.is_grad_enabled()
