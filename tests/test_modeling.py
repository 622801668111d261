"""The common tester: every invariant of a rationale model, held over every row of `common.CASES`."""

import copy
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

import pytest
import torch
import transformers
from common import CASES, CASES_BY_NAME, ENCODERS, FIRST_WORD, MAX_LENGTH, VOCAB_SIZE, ModelCase, random_texts
from huggingface_hub.errors import StrictDataclassError
from packaging.version import Version
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertModel,
    DebertaV2Config,
    LlamaConfig,
    PreTrainedModel,
    set_seed,
)
from transformers.utils import logging as transformers_logging

from hf_rationale import GruConfig, GruModel, PlmrConfig, RationaleConfig, RationaleForSequenceClassification
from hf_rationale.modeling.players import MaskPredictor, pool
from hf_rationale.modeling.selection import grouped_units


Batch = dict[str, torch.Tensor]

TOLERANCE = {"atol": 1e-5, "rtol": 0}  # logits are of the order of 1
EXACT = {"atol": 0, "rtol": 0}

both_paths = pytest.mark.parametrize("differentiable", [False, True], ids=["attention_mask", "differentiable"])
both_sides = pytest.mark.parametrize("side", ["right", "left"])

EVERYTHING = ({"rationale_ratio": 1.0}, {"rationale_top_k": 99}, {"rationale_threshold": 0.0})
BUDGETS = ({}, {"rationale_threshold": 0.4}, {"rationale_ratio": 0.3}, {"rationale_top_k": 2})


def every_way_to_select_all(model: PreTrainedModel) -> tuple[dict, ...]:
    """What is selected then is what can be selected. (No threshold brings back what an earlier stage has pruned.)"""
    return EVERYTHING if len(model.shares(0.5)) == 1 else EVERYTHING[:2]


def selectable(batch: Batch) -> torch.BoolTensor:
    return batch["word_ids"] >= 0


def random_mask(batch: Batch, seed: int = 0) -> torch.Tensor:
    """About half of each text's tokens: at least its first, and not its last."""
    mask = torch.rand(batch["input_ids"].shape, generator=torch.Generator().manual_seed(seed)).round()
    for row, can in zip(mask, selectable(batch), strict=True):
        first, *_, last = can.nonzero().flatten().tolist()
        row[first], row[last] = 1, 0
    return mask * selectable(batch)


def with_other_words(batch: Batch, where: torch.BoolTensor, seed: int = 7) -> Batch:
    """The batch with every token at `where` replaced by another word."""
    shift = torch.randint(1, VOCAB_SIZE - FIRST_WORD, where.shape, generator=torch.Generator().manual_seed(seed))
    others = (batch["input_ids"].clamp_min(FIRST_WORD) - FIRST_WORD + shift) % (VOCAB_SIZE - FIRST_WORD) + FIRST_WORD
    return batch | {"input_ids": batch["input_ids"].where(~where, others)}


def forced_logits(model: PreTrainedModel, batch: Batch, mask: torch.Tensor, differentiable: bool) -> torch.Tensor:
    """The logits where the predictor reads `mask`, through inference's code or through training's."""
    mask = mask.clone().requires_grad_(differentiable)
    with torch.set_grad_enabled(differentiable):
        return model(**batch, rationale_mask=mask).logits.detach()


def train_briefly(model: PreTrainedModel, batch: Batch):
    """Two optimizer steps, after which no weight is where it was."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        model(**batch, labels=torch.arange(len(batch["input_ids"])) % 3).loss.backward()
        optimizer.step()
    model.eval()


@contextmanager
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Memory that nobody initialised reads as NaN, instead of as whatever was there before."""

    def poisoned(allocate):
        def allocated(*args, **kwargs):
            tensor = allocate(*args, **kwargs)
            poison = tensor.is_floating_point() and tensor.device.type != "meta"
            return tensor.fill_(float("nan")) if poison else tensor

        return allocated

    with monkeypatch.context() as patch:
        for name in ("empty", "empty_like"):
            patch.setattr(torch, name, poisoned(getattr(torch, name)))
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
class TestEveryModel:
    # --- 1. Certificate of exclusion ---------------------------------------------------------------------------------

    @both_paths
    @both_sides
    def test_unselected_words_never_matter(self, case: ModelCase, side: str, differentiable: bool):
        model, batch = case.model(), case.batch(random_texts(5, 14, 9), side=side)
        mask = random_mask(batch)
        others = with_other_words(batch, selectable(batch) & (mask == 0))
        assert (others["input_ids"] != batch["input_ids"]).any(1).all()
        torch.testing.assert_close(
            forced_logits(model, others, mask, differentiable),
            forced_logits(model, batch, mask, differentiable),
            **TOLERANCE,
        )

    @both_paths
    def test_selected_words_matter(self, case: ModelCase, differentiable: bool):
        model, batch = case.model(), case.batch(random_texts(5, 14, 9))
        mask = random_mask(batch)
        change = forced_logits(model, with_other_words(batch, mask == 1), mask, differentiable)
        change -= forced_logits(model, batch, mask, differentiable)
        assert (change.abs().amax(1) > 1e-2).all()

    @both_paths
    def test_where_nothing_is_visible_the_logits_are_constant(self, case: ModelCase, differentiable: bool):
        # Without special tokens, and with nothing selected, the predictor reads nothing at all.
        model, texts = case.model(), torch.tensor(random_texts(6, 6))
        batch = {"input_ids": texts, "word_ids": torch.arange(6).expand(2, 6)}
        logits = forced_logits(model, batch, torch.zeros(2, 6), differentiable)
        assert logits.isfinite().all()
        torch.testing.assert_close(logits[0], logits[1], **TOLERANCE)

    # --- 2. Special tokens, padding, batches ------------------------------------------------------------------------

    @both_sides
    def test_special_tokens_and_padding_are_never_selected(self, case: ModelCase, side: str):
        # Also where the text itself names one: a review that says "[SEP]".
        model, backbone = case.model(), case.backbone
        batch = case.batch([[7, backbone.last, 8, 9, backbone.pad, 9, 3, 12], *random_texts(11)], side=side, extra=3)
        content = selectable(batch) & (batch["input_ids"] >= 4)
        assert content.sum(1).tolist() == [5, 11]
        with torch.no_grad():
            for everything in every_way_to_select_all(model):
                output = model(**batch, **everything)
                torch.testing.assert_close(output.rationale_mask, content.float(), **EXACT)
                assert (output.rationale_scores[~content] == 0).all()
                assert (output.rationale_scores[content] > 0).all()
            model.train()
            drawn = sum(model(**batch).rationale_mask for _ in range(12))
        assert (drawn[~content] == 0).all()
        assert (drawn[content] > 0).float().mean() > 0.5 / len(model.shares(0.5)) ** 2

    def test_special_tokens_and_padding_are_never_counted(self, case: ModelCase):
        model, texts = case.model(decoding="threshold"), random_texts(4, 10)
        labels, losses = torch.tensor([0, 1]), []
        for extra in (0, 9):
            batch = case.batch(texts, extra=extra)
            output = model(**batch, labels=labels, rationale_mask=torch.ones(batch["input_ids"].shape))
            losses.append({name: value.item() for name, value in output.losses.items()})
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
        # All of the text is selected, at least at last: its share is 1, and nothing changes within it.
        assert losses[0]["sparsity"] == 1
        if len(model.shares(0.5)) == 1:
            assert losses[0]["compactness"] == pytest.approx(model.config.sparsity_weight * 0.8)
            assert losses[0]["coherence"] == 0

    @torch.no_grad()
    @both_sides
    def test_a_row_alone_is_the_row_in_a_batch(self, case: ModelCase, side: str):
        model, texts = case.model(), random_texts(3, 8, 13)
        batch = case.batch(texts, side=side, extra=4)
        for budget in BUDGETS:
            together = model(**batch, **budget)
            assert together.rationale_mask.sum() < selectable(batch).sum()
            # What has to survive two stages may score low.
            lenient = not budget or ("rationale_threshold" in budget and len(model.shares(0.5)) > 1)
            assert together.rationale_mask.sum() > 0 or lenient
            for row, text in enumerate(texts):
                alone = model(**case.batch([text]), **budget)
                real = batch["attention_mask"][row].bool()
                for name in ("rationale_scores", "rationale_mask"):
                    torch.testing.assert_close(together[name][row, real], alone[name][0], **TOLERANCE)
                    assert (together[name][row, ~real] == 0).all()
                torch.testing.assert_close(together.logits[row], alone.logits[0], **TOLERANCE)

    @both_sides
    def test_a_row_alone_is_the_row_in_a_batch_in_training(self, case: ModelCase, side: str):
        model, texts = case.model(), random_texts(3, 8, 13)
        batch = case.batch(texts, side=side, extra=4)
        mask = random_mask(batch)
        together = forced_logits(model, batch, mask, differentiable=True)
        for row, text in enumerate(texts):
            own = mask[row, batch["attention_mask"][row].bool()].unsqueeze(0)
            alone = forced_logits(model, case.batch([text]), own, differentiable=True)
            torch.testing.assert_close(together[row], alone[0], **TOLERANCE)

    @both_sides
    def test_what_padding_says_never_matters(self, case: ModelCase, side: str):
        model, batch = case.model(), case.batch(random_texts(3, 8), side=side)
        others = with_other_words(batch, batch["attention_mask"] == 0)
        with torch.no_grad():
            before, after = model(**batch), model(**others)
        for name in ("logits", "rationale_scores", "rationale_mask"):
            torch.testing.assert_close(after[name], before[name], **TOLERANCE)

    def test_an_attention_mask_of_ones_is_none(self, case: ModelCase):
        model, batch = case.model(), case.batch(random_texts(6, 6))
        with torch.no_grad():
            given = model(**batch)
            del batch["attention_mask"]
            torch.testing.assert_close(model(**batch).logits, given.logits, **TOLERANCE)

    # --- 3. Shortened = masked; training's path = inference's -------------------------------------------------------

    def test_training_path_is_inference_path(self, case: ModelCase):
        model, batch = case.model(), case.batch(random_texts(5, 14, 9), queries=random_texts(2, 4, 3, seed=1))
        mask = random_mask(batch)
        torch.testing.assert_close(
            forced_logits(model, batch, mask, True), forced_logits(model, batch, mask, False), **TOLERANCE
        )

    def test_every_token_that_can_be_selected_gets_a_gradient(self, case: ModelCase):
        model, batch = case.model(), case.batch(random_texts(5, 14, 9), queries=random_texts(2, 4, 3, seed=1), extra=2)
        mask = random_mask(batch).requires_grad_()
        (model(**batch, rationale_mask=mask).logits * torch.tensor([1.0, -0.5, 0.3])).sum().backward()
        assert (mask.grad[selectable(batch)] != 0).all()
        assert (mask.grad[~selectable(batch)] == 0).all()
        assert mask.grad.isfinite().all()

    def test_a_training_step_reaches_every_weight(self, case: ModelCase):
        model, batch = case.model().train(), case.batch(random_texts(9, 14, 11, 12))
        set_seed(0)
        model(**batch, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
        for player in (model.extractor, model.predictor):
            assert any((p.grad != 0).any() for p in player.parameters() if p.requires_grad)

    # --- 4. Determinism ---------------------------------------------------------------------------------------------

    def test_evaluation_is_deterministic(self, case: ModelCase):
        model, batch = case.model(), case.batch(random_texts(5, 14, 9))
        with torch.no_grad():
            first = [model(**batch, **budget) for budget in BUDGETS]
        # Something of training in between: it must leave no trace but in the weights.
        model.train()
        model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
        model.eval()
        with torch.no_grad():
            second = [model(**batch, **budget) for budget in BUDGETS]
        for before, after in zip(first, second, strict=True):
            for name in ("logits", "rationale_mask", "rationale_scores"):
                torch.testing.assert_close(after[name], before[name], **EXACT)

    def test_sampling_follows_the_seed(self, case: ModelCase):
        model, batch = case.model().train(), case.batch(random_texts(20, 20))
        masks = []
        for seed in (3, 3, 4):
            set_seed(seed)
            masks.append(model(**batch).rationale_mask)
        assert masks[0].requires_grad
        assert all(set(mask.unique().tolist()) == {0.0, 1.0} for mask in masks)
        assert (masks[0] == masks[1]).all()
        assert (masks[0] != masks[2]).any()

    # --- 5. Saving and loading --------------------------------------------------------------------------------------

    def test_saved_and_loaded_logits_agree(self, case: ModelCase, tmp_path):
        model, batch = case.model(rationale_threshold=0.45), case.batch(random_texts(5, 14, 9))
        train_briefly(model, batch)
        model.save_pretrained(tmp_path)
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            "config.json",
            "model.safetensors",
            "rationale_model.py",
        ]
        with torch.no_grad():
            expected = model(**batch)
        for loader in (AutoModelForSequenceClassification, type(model)):
            loaded = loader.from_pretrained(tmp_path)
            assert type(loaded) is type(model)
            assert not loaded.training
            with torch.no_grad():
                output = loaded(**batch)
            for name in ("logits", "rationale_mask", "rationale_scores"):
                torch.testing.assert_close(output[name], expected[name], atol=1e-6, rtol=1e-6)
            assert {n: p.requires_grad for n, p in loaded.named_parameters()} == {
                n: p.requires_grad for n, p in model.named_parameters()
            }

    def test_config_round_trip(self, case: ModelCase, tmp_path):
        config = case.model(sparsity=0.15, id2label={0: "no", 1: "yes", 2: "perhaps"}).config
        assert config.label2id == {"no": 0, "yes": 1, "perhaps": 2}
        config.save_pretrained(tmp_path)
        loaded = AutoConfig.from_pretrained(tmp_path)
        assert type(loaded) is type(config)
        ignored = ("_name_or_path", "transformers_version", "architectures", "dtype")
        known = [{k: v for k, v in c.to_dict().items() if k not in ignored} for c in (loaded, config)]
        assert json.dumps(known[0], sort_keys=True) == json.dumps(known[1], sort_keys=True)

    def test_missing_weights_come_out_initialised(self, case: ModelCase, tmp_path, monkeypatch):
        model, batch = case.model(), case.batch(random_texts(5, 14, 9))
        model.save_pretrained(tmp_path)
        weights = load_file(tmp_path / "model.safetensors")
        heads = {name for name in weights if ".encoder." not in name}
        assert len(heads) >= 4
        for missing in (heads, set(weights) - heads, {name for i, name in enumerate(sorted(weights)) if i % 2}):
            kept = {name: value for name, value in weights.items() if name not in missing}
            save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
            with poisoned_memory(monkeypatch):
                loaded = type(model).from_pretrained(tmp_path)
            for name, parameter in loaded.named_parameters():
                if name in kept:
                    torch.testing.assert_close(parameter.data, kept[name], **EXACT)
                elif name in missing:
                    assert_initialised(name, parameter, loaded)
            assert all(buffer.isfinite().all() for buffer in loaded.buffers() if buffer.is_floating_point())
            with torch.no_grad():
                assert loaded(**batch).logits.isfinite().all()

    def test_half_precision_checkpoint(self, case: ModelCase, tmp_path):
        batch = case.batch(random_texts(5, 14, 9))
        case.model().save_pretrained(tmp_path / "full")
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "full", dtype=torch.bfloat16)
        model.save_pretrained(tmp_path)
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype="auto")
        assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
        with torch.no_grad():
            torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits, **EXACT)
        loaded.train()
        loss = loaded(**batch, labels=torch.tensor([0, 1, 2])).loss
        loss.backward()
        assert loss.isfinite()
        full = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
        assert {parameter.dtype for parameter in full.parameters()} == {torch.float32}
        with torch.no_grad():
            assert full(**batch).logits.isfinite().all()

    def test_unknown_arguments_raise(self, case: ModelCase):
        model, batch = case.model(), case.batch(random_texts(4))
        with pytest.raises(TypeError, match="has no argument rationale_rato"):
            model(**batch, rationale_rato=0.1)

    # --- Words ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def test_budgets_count_what_is_selected_as_a_whole(self, case: ModelCase):
        model, batch = case.model(), case.batch(random_texts(1, 10, 17), extra=2)
        for budget, wanted in (
            ({"rationale_ratio": 0.0}, lambda available, words: 0),
            ({"rationale_ratio": 0.01}, lambda available, words: 1),
            ({"rationale_ratio": 0.5}, lambda available, words: int(0.5 * words + 0.5)),
            ({"rationale_ratio": 1.0}, lambda available, words: available),
            ({"rationale_top_k": 0}, lambda available, words: 0),
            ({"rationale_top_k": 3}, lambda available, words: min(3, available)),
        ):
            output = model(**batch, **budget)
            mask = output.rationale_mask
            for row, words in enumerate(batch["word_ids"]):
                units = words if case.by_word else torch.arange(len(words))
                available, count = len(units[words >= 0].unique()), len(words[words >= 0].unique())
                taken = len(units[mask[row] == 1].unique())
                if case.by_word or budget not in ({"rationale_ratio": 0.01}, {"rationale_ratio": 0.5}):
                    assert taken == wanted(available, count), (budget, row)
                else:  # a token counts as the part of the word that it is, and is taken if half of it fits
                    scores = output.rationale_scores[row]
                    places = [place for place in range(len(words)) if words[place] >= 0]
                    before, expected = 0.0, set()
                    for place in sorted(places, key=lambda place: -scores[place].item()):
                        part = 1 / int((words == words[place]).sum())
                        if before + part / 2 <= budget["rationale_ratio"] * count + 1e-5 or not expected:
                            expected.add(place)
                        before += part
                    assert set(mask[row].nonzero().flatten().tolist()) == expected, (budget, row)

    @torch.no_grad()
    def test_what_evaluation_selects_has_the_right_size(self, case: ModelCase):
        model = case.model(sparsity=0.1)  # of a text of 3 words: one, which is more than a tenth
        output = model(**case.batch(random_texts(3, 10, 17), extra=2), labels=torch.tensor([0, 1, 2]))
        assert output.losses["compactness"] == 0
        model.config.decoding = "threshold"
        everything = model(**case.batch(random_texts(3)), labels=torch.tensor([0]), rationale_ratio=1.0)
        assert everything.losses["compactness"] > 0.5 * model.config.sparsity_weight / len(model.shares(0.1))

    def test_without_word_ids_tokens_are_selected(self, case: ModelCase, caplog):
        transformers_logging.warning_once.cache_clear()
        model, batch = case.model(), case.batch(random_texts(12, 12), word_ids=False)
        with caplog.at_level(logging.WARNING):
            output = model(**batch, rationale_top_k=3)
        assert output.rationale_mask.sum(1).tolist() == [3, 3]
        assert ("was not told where they are" in caplog.text) == case.by_word

    # --- Pairs ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    @both_sides
    def test_of_a_pair_only_the_second_segment_is_selected(self, case: ModelCase, side: str):
        model = case.model()
        batch = case.batch(random_texts(6, 9), queries=random_texts(2, 5, seed=1), side=side)
        second = selectable(batch)
        batch["token_type_ids"] = batch.get("token_type_ids", second.long())
        # Segment ids, word ids or the special tokens between the two: each of them is enough.
        for left_out in ((), ("word_ids",), ("token_type_ids",), ("word_ids", "token_type_ids")):
            known = {name: value for name, value in batch.items() if name not in left_out}
            for everything in every_way_to_select_all(model):
                mask = model(**known, **everything).rationale_mask
                torch.testing.assert_close(mask, second.float(), **EXACT)

    @both_paths
    def test_the_first_segment_is_always_read(self, case: ModelCase, differentiable: bool):
        model = case.model()
        batch = case.batch(random_texts(6, 9), queries=random_texts(2, 5, seed=1))
        mask = random_mask(batch)
        query = (batch["attention_mask"] == 1) & (batch["word_ids"] < 0) & (batch["input_ids"] >= FIRST_WORD)
        assert query.sum(1).tolist() == [2, 5]
        change = forced_logits(model, with_other_words(batch, query), mask, differentiable)
        change -= forced_logits(model, batch, mask, differentiable)
        assert (change.abs().amax(1) > 1e-2).all()

    def test_segments_reach_every_encoder_that_reads_them(self, case: ModelCase):
        model = case.model()
        batch = case.batch(random_texts(6, 9), queries=random_texts(2, 5, seed=1))
        mask = random_mask(batch)
        batch["token_type_ids"] = selectable(batch).long()
        change = forced_logits(model, batch, mask, False)
        batch["token_type_ids"] = torch.zeros_like(batch["token_type_ids"])
        change -= forced_logits(model, batch, mask, False)
        assert (change.abs().amax() > 1e-4) == (model.reader.config.model_type in ("bert", "electra"))

    # --- 8. Extreme inputs ------------------------------------------------------------------------------------------

    @both_sides
    def test_texts_of_one_token_and_of_none_that_can_be_selected(self, case: ModelCase, side: str):
        model, texts = case.model(), [[9], [case.backbone.last], *random_texts(8)]
        batch = case.batch(texts, side=side)
        labels = torch.tensor([0, 1, 2])
        for mode in (model.eval(), model.train()):
            output = mode(**batch, labels=labels, rationale_top_k=1)
            assert (output.rationale_mask.sum(1) > 0).tolist() == [True, False, True]
            assert output.loss.isfinite()
            output = mode(**batch, labels=labels)
            assert output.logits.isfinite().all()
            if output.loss.requires_grad:
                output.loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        model.eval()
        with torch.no_grad():
            alone = model(**case.batch(texts[2:]))
            torch.testing.assert_close(model(**batch).logits[2], alone.logits[0], **TOLERANCE)

    def test_texts_around_the_number_of_positions(self, case: ModelCase):
        model = case.model()
        room = MAX_LENGTH - 2 * (case.backbone.first is not None)
        with torch.no_grad():
            for length in (room, room + 1, 3 * room):
                assert model(**case.batch(random_texts(length))).logits.isfinite().all()


# --- Of some rows only ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if case.attention], ids=str)
@both_paths
def test_further_unselected_words_never_matter(case: ModelCase, differentiable: bool):
    # Of masking="attention"; zeroed positions stay in the sequence, where their number matters.
    model, (text,) = case.model(), random_texts(7)
    short, long = case.batch([text]), case.batch([text + random_texts(6, seed=1)[0]])
    mask = random_mask(short)
    longer = torch.zeros_like(long["input_ids"], dtype=mask.dtype)
    longer[:, : mask.shape[1]] = mask
    torch.testing.assert_close(
        forced_logits(model, long, longer, differentiable),
        forced_logits(model, short, mask, differentiable),
        **TOLERANCE,
    )


@pytest.mark.parametrize("case", [case for case in CASES if case.gathers], ids=str)
def test_the_predictor_reads_what_is_selected_where_it_stood(case: ModelCase):
    # Of the encoders that take positions as they are given: see Backbone.gathers.
    model, batch = case.model(), case.batch(random_texts(5, 14, 9), queries=random_texts(2, 4, 3, seed=1))
    encoder, mask = model.reader, random_mask(batch)
    first_position = 2 if encoder.config.model_type == "roberta" else 0
    with torch.no_grad():
        inputs = model.prepare(**batch)
        masked = model.predict(inputs, mask)
        for row in range(3):
            position = (mask[row] + inputs.context[row]).nonzero().flatten()
            assert 0 < len(position) < batch["attention_mask"][row].sum()
            read = {
                "input_ids": batch["input_ids"][row, position].unsqueeze(0),
                "position_ids": position.unsqueeze(0) + first_position,
            }
            if "token_type_ids" in batch and encoder.config.model_type != "distilbert":
                read["token_type_ids"] = batch["token_type_ids"][row, position].unsqueeze(0)
            hidden = encoder(**read).last_hidden_state
            pooled = pool(hidden, torch.ones(1, len(position)), model.config.pooling)
            torch.testing.assert_close(masked.representation[row], pooled[0], **TOLERANCE)
            torch.testing.assert_close(masked.logits[row], model.predictor.classifier(pooled)[0], **TOLERANCE)


@pytest.mark.parametrize("case", [case for case in CASES if case.shortens], ids=str)
@both_sides
@torch.no_grad()
def test_shortened_is_masked(case: ModelCase, side: str, monkeypatch):
    model = case.model()
    texts, queries = random_texts(5, 30, 2, 9), random_texts(2, 4, 3, 1, seed=1)
    for batch in (case.batch(texts, side=side, extra=2), case.batch(texts, queries=queries, side=side)):
        calls = [{"rationale_mask": random_mask(batch)}, *BUDGETS, {"rationale_threshold": 0.0}]
        with computed_tokens(model.reader) as computed:
            shortened = [model(**batch, **call) for call in calls]
        monkeypatch.setattr("hf_rationale.text.attention.can_shorten", lambda *_: False)
        masked = [model(**batch, **call) for call in calls]
        monkeypatch.undo()
        for one, other in zip(shortened, masked, strict=True):
            for name in ("logits", "rationale_scores"):
                torch.testing.assert_close(one[name], other[name], **TOLERANCE)
            torch.testing.assert_close(one.rationale_mask, other.rationale_mask, **EXACT)
        assert 0 < computed[0] < 0.7 * batch["input_ids"].numel()


@contextmanager
def computed_tokens(encoder: PreTrainedModel) -> Iterator[list[int]]:
    """How many tokens, padding included, `encoder` computes in each of its calls."""
    counts = []

    def count(module, args, kwargs):
        batch, seq, *_ = (kwargs["input_ids"] if "input_ids" in kwargs else kwargs["inputs_embeds"]).shape
        counts.append(batch * seq)

    handle = encoder.register_forward_pre_hook(count, with_kwargs=True)
    yield counts
    handle.remove()


@pytest.mark.parametrize("case", [case for case in CASES if case.by_word], ids=str)
def test_words_go_in_or_out_as_a_whole(case: ModelCase):
    model, batch = case.model(), case.batch(random_texts(12, 17))
    outputs = [model(**batch, **budget) for budget in ({}, {"rationale_ratio": 0.4}, {"rationale_top_k": 2})]
    model.train()
    outputs += [model(**batch) for _ in range(5)]
    for output in outputs:
        for row, words in enumerate(batch["word_ids"]):
            for word in range(int(words.max()) + 1):
                assert len(output.rationale_mask[row, words == word].unique()) == 1
                assert len(output.rationale_scores[row, words == word].unique()) == 1


def assert_initialised(name: str, parameter: nn.Parameter, model: PreTrainedModel):
    """Finite, of the scale that its kind starts with, and not constant where it should be random."""
    values = parameter.detach().float()
    assert values.isfinite().all(), name
    owner = model.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, nn.GRU):
        bound = owner.hidden_size**-0.5
        assert values.abs().max() <= bound, name
        assert values.std() > 0.3 * bound, name
    elif values.dim() > 1:
        assert 0.05 < values.std() < 2, name
        # Before 5.14, transformers fills the row of padding in ModernBERT. Padding is masked, so it is harmless.
        filled = name.endswith("tok_embeddings.weight") and Version(transformers.__version__) < Version("5.14")
        if isinstance(owner, nn.Embedding) and owner.padding_idx is not None and not filled:
            assert (values[owner.padding_idx] == 0).all(), name
    elif "norm" in name.lower() and name.endswith("weight"):
        assert (values == 1).all(), name
    else:
        assert (values == 0).all(), name


# --- From an encoder's checkpoint ----------------------------------------------------------------------------------


class TestFromEncoder:
    @pytest.fixture(params=ENCODERS)
    def encoder_dir(self, request, tmp_path):
        AutoModel.from_config(ENCODERS[request.param].config()).save_pretrained(tmp_path)
        return tmp_path

    def test_weights_reach_both_players(self, encoder_dir):
        source = AutoModel.from_pretrained(encoder_dir)
        model = RationaleForSequenceClassification.from_encoder_pretrained(encoder_dir, num_labels=3, sparsity=0.15)
        assert not model.training
        assert (model.config.num_labels, model.config.sparsity) == (3, 0.15)
        for player in (model.extractor, model.predictor):
            loaded = player.encoder.state_dict()
            for name, value in source.state_dict().items():
                if not name.startswith("pooler."):
                    torch.testing.assert_close(loaded.pop(name), value, **EXACT)
            assert not loaded
        for name, parameter in model.named_parameters():
            if ".encoder." not in name and parameter.dim() > 1:
                assert 0.01 < parameter.std() < 0.03, name

    def test_half_precision_encoder_gives_a_full_precision_model(self, encoder_dir, tmp_path):
        encoder = AutoModel.from_pretrained(encoder_dir, dtype=torch.bfloat16)
        encoder.save_pretrained(tmp_path / "half")
        for source in (tmp_path / "half", encoder):
            model = RationaleForSequenceClassification.from_encoder_pretrained(source, special_token_ids=[0])
            assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
            model.save_pretrained(tmp_path / "model")
            loaded = RationaleForSequenceClassification.from_pretrained(tmp_path / "model")
            assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
            batch = {"input_ids": torch.tensor([[9, 8, 7]])}
            torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits, atol=1e-6, rtol=1e-6)

    def test_from_a_checkpoint_with_another_head(self, tmp_path):
        source = BertForMaskedLM(ENCODERS["bert"].config())
        source.save_pretrained(tmp_path)
        model = RationaleForSequenceClassification.from_encoder_pretrained(tmp_path)
        for player in (model.extractor, model.predictor):
            for name, value in player.encoder.state_dict().items():
                torch.testing.assert_close(value, source.bert.state_dict()[name], **EXACT)

    def test_two_different_encoders(self, tmp_path):
        for name in ("bert", "distilbert"):
            AutoModel.from_config(ENCODERS[name].config()).save_pretrained(tmp_path / name)
        model = RationaleForSequenceClassification.from_encoder_pretrained(tmp_path / "bert", tmp_path / "distilbert")
        assert model.config.extractor_config.model_type == "bert"
        assert model.config.predictor_config.model_type == "distilbert"

    def test_the_encoder_given_is_copied(self):
        encoder = GruModel(ENCODERS["gru"].config())
        before = encoder.embeddings.weight.clone()
        model = RationaleForSequenceClassification.from_encoder_pretrained(encoder, special_token_ids=[0])
        with torch.no_grad():
            model.extractor.encoder.embeddings.weight += 1
        torch.testing.assert_close(encoder.embeddings.weight, before, **EXACT)
        torch.testing.assert_close(model.predictor.encoder.embeddings.weight, before, **EXACT)

    def test_without_a_tokenizer_it_warns_and_reads_the_config(self, tmp_path, caplog):
        AutoModel.from_config(ENCODERS["roberta"].config()).save_pretrained(tmp_path)
        with caplog.at_level(logging.WARNING):
            model = RationaleForSequenceClassification.from_encoder_pretrained(tmp_path)
        assert "No tokenizer was given or found" in caplog.text
        assert model.config.special_token_ids == [0, 1, 2]
        assert model.config.pad_token_id == 1

    def test_an_encoder_without_a_tokenizer_warns_too(self, caplog):
        with caplog.at_level(logging.WARNING):
            RationaleForSequenceClassification.from_encoder_pretrained(GruModel(ENCODERS["gru"].config()))
        assert "No tokenizer was given or found" in caplog.text

    def test_a_classifier_gives_its_encoder(self):
        classifier = AutoModelForSequenceClassification.from_config(ENCODERS["bert"].config())
        model = RationaleForSequenceClassification.from_encoder_pretrained(classifier, special_token_ids=[0])
        weight = classifier.bert.embeddings.word_embeddings.weight
        torch.testing.assert_close(model.extractor.encoder.embeddings.word_embeddings.weight, weight, **EXACT)

    def test_a_field_that_does_not_exist_is_named(self):
        with pytest.raises(TypeError, match="RationaleConfig has no field sparsty"):
            RationaleForSequenceClassification.from_encoder_pretrained(
                GruModel(ENCODERS["gru"].config()), special_token_ids=[0], sparsty=0.1
            )

    def test_causal_attention_is_refused(self):
        config = LlamaConfig(
            vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        )
        with pytest.raises(ValueError, match="use masking='zero'"):
            RationaleForSequenceClassification(RationaleConfig(extractor_config=config, predictor_config=config))

    def test_tied_and_frozen_word_vectors_stay_so(self, tmp_path):
        config = ENCODERS["gru"].config()
        config.freeze_embeddings = True
        model = RationaleForSequenceClassification.from_encoder_pretrained(
            GruModel(config), special_token_ids=[0, 1, 2], tie_word_embeddings=True
        )
        model.save_pretrained(tmp_path)
        stored = load_file(tmp_path / "model.safetensors")
        assert [name for name in stored if "embeddings" in name] == ["extractor.encoder.embeddings.weight"]
        for loader in (AutoModelForSequenceClassification, RationaleForSequenceClassification):
            loaded = loader.from_pretrained(tmp_path)
            weight = loaded.extractor.encoder.embeddings.weight
            assert loaded.predictor.encoder.embeddings.weight is weight
            assert not weight.requires_grad
            torch.testing.assert_close(weight.data, model.extractor.encoder.embeddings.weight.data, **EXACT)
            batch = CASES_BY_NAME["gru-tied"].batch(random_texts(5, 9))
            train_briefly(loaded, batch)
            torch.testing.assert_close(weight.data, model.extractor.encoder.embeddings.weight.data, **EXACT)

    def test_a_rationale_model_is_no_encoder(self, tmp_path):
        model = CASES_BY_NAME["gru-zero-token"].model()
        model.save_pretrained(tmp_path)
        for encoder in (tmp_path, model):
            with pytest.raises(ValueError, match=r"is already a rationale model. Load it with from_pretrained"):
                RationaleForSequenceClassification.from_encoder_pretrained(encoder)

    def test_an_encoder_is_no_rationale_model(self, tmp_path):
        AutoModel.from_config(ENCODERS["bert"].config()).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match=r"type 'bert', not 'rationale'. .*from_encoder_pretrained"):
            RationaleForSequenceClassification.from_pretrained(tmp_path)

    @pytest.mark.parametrize("load", ["from_pretrained", "from_encoder_pretrained"])
    def test_missing_folder(self, load, tmp_path):
        with pytest.raises(OSError, match="nowhere"):
            getattr(RationaleForSequenceClassification, load)(tmp_path / "nowhere")

    def test_vocabularies_must_agree(self):
        other = ENCODERS["gru"].config()
        other.vocab_size = VOCAB_SIZE + 1
        with pytest.raises(
            StrictDataclassError, match=r"need the same tokenizer. Their vocabularies have 64 and 65 entries"
        ):
            RationaleForSequenceClassification.from_encoder_pretrained(
                GruModel(ENCODERS["gru"].config()), GruModel(other), special_token_ids=[0]
            )

    def test_a_convolution_over_tokens_cannot_be_masked_by_attention(self):
        # DeBERTa-v2 xlarge: what is not selected would reach its neighbours through the convolution.
        config = DebertaV2Config(**ENCODERS["deberta-v2"].config().to_diff_dict() | {"conv_kernel_size": 3})
        options = {"extractor_config": config, "predictor_config": config}
        with pytest.raises(ValueError, match=r"cannot be masked from outside; use masking='zero'"):
            RationaleForSequenceClassification(RationaleConfig(**options, masking="attention"))
        RationaleForSequenceClassification(RationaleConfig(**options, masking="zero"))


# --- Bad inputs ----------------------------------------------------------------------------------------------------


def _batch(**changes) -> Batch:
    batch = CASES_BY_NAME["bert-attention-token"].batch(random_texts(4, 6))
    return {name: value for name, value in (batch | changes).items() if value is not None}


BAD_INPUTS = {
    "token indices that are no which are integers": ({"input_ids": torch.ones(2, 8)}, "which are integers"),
    "an index beyond the vocabulary": ({"input_ids": torch.full((2, 8), 10_000)}, "input_ids contains 10000"),
    "labels of another integer type": ({"labels": torch.tensor([0, 1], dtype=torch.int32)}, "torch.int64"),
    "mask of the wrong length": ({"rationale_mask": torch.ones(2, 7)},
        r"rationale_mask must have an entry .* \(2, 8\), but has shape \(2, 7\)"),
    "mask of one text": ({"rationale_mask": torch.ones(8)}, r"rationale_mask must have an entry .* has shape \(8,\)"),
    "NaN in the mask": ({"rationale_mask": torch.full((2, 8), float("nan"))}, r"rationale_mask must contain only"),
    "mask out of range": ({"rationale_mask": torch.full((2, 8), 2.0)}, r"rationale_mask must contain only"),
    "mask between 0 and 1": ({"rationale_mask": torch.full((2, 8), 0.5)}, r"rationale_mask must contain only"),
    "mask that is a list": ({"rationale_mask": [[1] * 8] * 2}, r"rationale_mask must be a tensor"),
    "label too high": ({"labels": torch.tensor([0, 3])}, r"labels contain 3, but the model has 3 classes"),
    "label negative": ({"labels": torch.tensor([-1, 0])}, r"labels contain -1"),
    "one text without a batch": ({"input_ids": torch.tensor([9, 9])},
        r"input_ids must have the shape \(batch_size, sequence_length\), but has \(2,\)"),
    "attention_mask of another shape": ({"attention_mask": torch.ones(2, 5)},
        r"attention_mask must have the shape of input_ids, \(2, 8\), but has \(2, 5\)"),
    "word_ids of another shape": ({"word_ids": torch.ones(2, 9)}, r"word_ids must have the shape of input_ids"),
    "token_type_ids of another shape": ({"token_type_ids": torch.ones(2, 9)},
        r"token_type_ids must have the shape of input_ids"),
    "a row of padding alone": ({"attention_mask": torch.tensor([[1] * 8, [0] * 8])}, r"Row 1 .* empty"),
    "no tokens at all": ({"input_ids": torch.zeros(2, 0).long(), "attention_mask": None, "word_ids": None},
        r"There is no text to read: input_ids has the shape \(2, 0\)"),
    "no texts at all": ({"input_ids": torch.zeros(0, 5).long(), "attention_mask": None, "word_ids": None},
        r"There is no text to read: input_ids has the shape \(0, 5\)"),
    "two budgets": ({"rationale_ratio": 0.1, "rationale_top_k": 3}, r"Only one budget can be given"),
    "budget and mask": ({"rationale_ratio": 0.1, "rationale_mask": torch.ones(2, 8)}, r"budget or a rationale_mask"),
    "ratio above 1": ({"rationale_ratio": 1.1}, r"rationale_ratio must .* in \[0, 1\], but is 1.1"),
    "ratio below 0": ({"rationale_ratio": -0.1}, r"rationale_ratio must .* in \[0, 1\], but is -0.1"),
    "ratio NaN": ({"rationale_ratio": float("nan")}, r"rationale_ratio must .* in \[0, 1\], but is nan"),
    "ratio of a wrong type": ({"rationale_ratio": "0.1"}, r"rationale_ratio must .* in \[0, 1\], but is '0.1'"),
    "ratio that is a flag": ({"rationale_ratio": True}, r"rationale_ratio must .* in \[0, 1\], but is True"),
    "threshold above 1": ({"rationale_threshold": 1.5}, r"rationale_threshold must .*\[0, 1\]"),
    "top_k negative": ({"rationale_top_k": -1}, r"rationale_top_k must .* at least 0, but is -1"),
    "top_k fractional": ({"rationale_top_k": 1.5}, r"rationale_top_k must .* at least 0, but is 1.5"),
    "top_k that is a flag": ({"rationale_top_k": True}, r"rationale_top_k must .* at least 0, but is True"),
}  # fmt: skip


@pytest.mark.parametrize("changes, message", BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_bad_input_is_named(changes: dict, message: str):
    model = CASES_BY_NAME["bert-attention-token"].model()
    with pytest.raises(ValueError, match=message):
        model(**_batch(**changes))


def test_outputs():
    model = CASES_BY_NAME["bert-attention-token"].model()
    assert model(**_batch()).loss is None
    output = model(**_batch(labels=torch.tensor([0, 1])))
    assert set(output.losses) == {"cross_entropy", "compactness", "coherence", "sparsity"}
    total = sum(value for name, value in output.losses.items() if name != "sparsity")
    torch.testing.assert_close(output.loss, total)
    assert output.logits.shape == (2, 3)
    assert output.rationale_mask.shape == output.rationale_scores.shape == (2, 8)
    as_tuple = model(**_batch(), return_dict=False)
    assert isinstance(as_tuple, tuple)
    torch.testing.assert_close(as_tuple[0], output.logits, **TOLERANCE)


# --- Configuration -------------------------------------------------------------------------------------------------


def _config(**changes) -> RationaleConfig:
    return RationaleConfig(
        **{"extractor_config": ENCODERS["gru"].config(), "predictor_config": ENCODERS["gru"].config()} | changes
    )


BAD_CONFIGS = {
    "sparsity NaN": ({"sparsity": float("nan")}, "sparsity is the share"),
    "sparsity 0": ({"sparsity": 0.0}, "sparsity is the share"),
    "sparsity 1": ({"sparsity": 1.0}, "sparsity is the share"),
    "sparsity of a wrong type": ({"sparsity": "0.2"}, "Field 'sparsity' expected float, got str"),
    "sparsity_weight negative": ({"sparsity_weight": -1.0}, "sparsity_weight must be finite"),
    "sparsity_weight NaN": ({"sparsity_weight": float("nan")}, "sparsity_weight must be finite"),
    "coherence_weight infinite": ({"coherence_weight": float("inf")}, "coherence_weight must be finite"),
    "coherence_weight of a wrong type": ({"coherence_weight": None}, "Field 'coherence_weight' with value None"),
    "sparsity_level unknown": ({"sparsity_level": "corpus"}, "sparsity_level must be one of"),
    "selection_level unknown": ({"selection_level": "paragraph"}, "selection_level must be one of"),
    "masking unknown": ({"masking": "delete"}, "masking must be one of"),
    "masking of a wrong type": ({"masking": 1}, "Field 'masking' with value 1"),
    "pooling unknown": ({"pooling": "sum"}, "pooling must be one of"),
    "temperature 0": ({"temperature": 0}, "temperature must be"),
    "temperature NaN": ({"temperature": float("nan")}, "temperature must be"),
    "temperature infinite": ({"temperature": float("inf")}, "temperature must be"),
    "threshold above 1": ({"rationale_threshold": 1.1}, "rationale_threshold must"),
    "top k without k": ({"decoding": "top_k"}, "rationale_top_k need each other"),
    "k without top k": ({"rationale_top_k": 2}, "rationale_top_k need each other"),
    "top 0": ({"decoding": "top_k", "rationale_top_k": 0}, "rationale_top_k must be at least 1"),
    "threshold NaN": ({"rationale_threshold": float("nan")}, "rationale_threshold must"),
    "one label": ({"num_labels": 1}, "needs at least 2 labels"),
    "dropout 1": ({"classifier_dropout": 1.0}, "classifier_dropout must lie in"),
    "special tokens of a wrong type": ({"special_token_ids": ["[CLS]"]}, "Field 'special_token_ids' with value"),
    "unknown encoder": ({"extractor_config": {"model_type": "nonesuch"}},
        "extractor_config has an unknown model_type: 'nonesuch'"),
    "encoder without a type": ({"predictor_config": {"hidden_size": 4}},
        "predictor_config has an unknown model_type: None"),
    "attention of a GRU": ({"masking": "attention"}, "has no attention to mask: use masking='zero'"),
    "vocabularies differ": ({"extractor_config": GruConfig(vocab_size=7)}, "vocabularies have 7 and 64 entries"),
}  # fmt: skip


@pytest.mark.parametrize("changes, message", BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_bad_config_is_named(changes: dict, message: str):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        _config(**changes)


@pytest.mark.parametrize("config_class", [GruConfig, RationaleConfig, PlmrConfig])
def test_types_are_checked(config_class: type):
    # `@strict` silently checks nothing that is annotated by a string, as `from __future__ import annotations` would.
    own = [field for field in fields(config_class) if field.name in config_class.__annotations__]
    assert own
    assert not [field.name for field in own if isinstance(field.type, str)]


@pytest.mark.parametrize("hidden_size", [0, -2, 7])
def test_gru_width_is_even(hidden_size: int):
    with pytest.raises(StrictDataclassError, match="positive and even"):
        GruConfig(hidden_size=hidden_size)


def test_config_defaults_follow_the_predictor():
    gru, bert = ENCODERS["gru"].config(), ENCODERS["bert"].config()
    config = RationaleConfig(extractor_config=gru, predictor_config=gru)
    assert (config.masking, config.pooling) == ("zero", "max")
    config = RationaleConfig(extractor_config=gru, predictor_config=bert.to_dict())
    assert (config.masking, config.pooling) == ("attention", "mean")
    assert isinstance(config.predictor_config, type(bert))
    assert (config.vocab_size, config.hidden_size) == (VOCAB_SIZE, 16)


def test_a_config_without_encoders_makes_no_model():
    with pytest.raises(ValueError, match="needs extractor_config and predictor_config"):
        RationaleForSequenceClassification(RationaleConfig())


# --- One encoder for both players ------------------------------------------------------------------------------------


def test_players_that_share_an_encoder_hold_it_once():
    shared, apart = CASES_BY_NAME["bert-shared"].model(), CASES_BY_NAME["bert-attention-token"].model()
    assert shared.encoders == (shared.extractor.encoder,) and shared.predictor.encoder is None
    assert not any(name.startswith("predictor.encoder") for name in shared.state_dict())
    encoder = sum(weight.numel() for weight in shared.extractor.encoder.parameters())
    assert shared.num_parameters() == apart.num_parameters() - encoder


def test_two_encoders_cannot_be_shared():
    config = CASES_BY_NAME["bert-shared"].model().config
    with pytest.raises(ValueError, match="leave predictor out"):
        RationaleForSequenceClassification.from_encoder_pretrained(
            BertModel(config.extractor_config), BertModel(config.extractor_config), share_encoder=True
        )
    other = copy.deepcopy(config.extractor_config)
    other.num_hidden_layers += 1
    with pytest.raises(ValueError, match="extractor_config and predictor_config differ"):
        RationaleConfig(extractor_config=config.extractor_config, predictor_config=other, share_encoder=True)


def test_long_padding_does_not_overflow_in_half_precision():
    predictor = MaskPredictor(RationaleConfig(), 2).half().eval()
    nn.init.constant_(predictor.selector.bias, 20.0)
    word_ids = torch.full((1, 8000), -1)
    word_ids[0, 0] = 0
    units = grouped_units(word_ids, word_ids >= 0)  # 7,999 times 20 is beyond float16
    assert predictor(torch.randn(1, 8000, 2).half(), units).softmax(-1).isfinite().all()
