"""PLMR: the split, the Dim-Reduction layers, the objective. The invariants of every model are in test_modeling.py."""

import copy
import itertools
import math
from dataclasses import fields

import pytest
import torch
from common import CASES_BY_NAME, ENCODERS, plmr_model, random_texts
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from torch.nn import functional as F
from training_common import make_args, make_model, make_trainer
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig, PreTrainedModel, pipeline, set_seed

from hf_rationale import (
    A2ITrainer,
    FRTrainer,
    N2RTrainer,
    PLMRArguments,
    PlmrConfig,
    PlmrForSequenceClassification,
    PLMRTrainer,
    RationaleConfig,
    RationaleForSequenceClassification,
    compose,
)
from hf_rationale.methods.a2i import add_attacker, attack
from hf_rationale.modeling.objective import full_text_terms, match, objective
from hf_rationale.modeling.selection import single_units
from hf_rationale.text.encoder_traits import ENCODER_TRAITS
from hf_rationale.text.encoders import encoder_inputs
from hf_rationale.text.shortening import encode_shortened, group_by_length
from hf_rationale.text.splitting import split_encoder


TOLERANCE = {"atol": 1e-5, "rtol": 0}
EXACT = {"atol": 0, "rtol": 0}

SPLITTABLE = [name for name, traits in ENCODER_TRAITS.items() if traits.splits]
every_encoder = pytest.mark.parametrize("name", SPLITTABLE)


def deep_encoder(name: str, layers: int = 4) -> PreTrainedModel:
    config = ENCODERS[name].config()
    set_seed(0)
    config = type(config)(**config.to_diff_dict() | {"num_hidden_layers": layers, "layer_types": None})
    encoder = AutoModel.from_config(config).eval()
    encoder.pooler = None
    return encoder


def long_bert(**options) -> RationaleForSequenceClassification:
    config = BertConfig(**ENCODERS["bert"].config().to_diff_dict() | {"max_position_embeddings": 512})
    return RationaleForSequenceClassification(
        RationaleConfig(extractor_config=config, predictor_config=copy.deepcopy(config), **options)
    )


# --- The split -------------------------------------------------------------------------------------------------------


@every_encoder
@pytest.mark.parametrize("ends", [[2], [1, 3], [1, 2, 3]], ids=str)
@torch.no_grad()
def test_the_parts_one_after_the_other_are_the_encoder(name: str, ends: list[int]):
    encoder = deep_encoder(name)
    batch = CASES_BY_NAME[f"{name}-attention-token"].batch(random_texts(5, 9), word_ids=False)
    batch.pop("token_type_ids", None)
    expected = encoder(**batch).last_hidden_state
    weights = {id(weight) for weight in encoder.parameters()}
    first, *others = split_encoder(encoder, ends)
    assert first is encoder
    hidden = first(**batch).last_hidden_state
    for part in others:
        hidden = part(inputs_embeds=hidden, attention_mask=batch["attention_mask"]).last_hidden_state
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(hidden[real], expected[real], **TOLERANCE)
    # No weight is copied, but for what lies around the layers and every part has for itself.
    copied = {name for part in others for name, weight in part.named_parameters() if id(weight) not in weights}
    assert copied == {"mpnet": {"encoder.relative_attention_bias.weight"}, "modernbert": {"final_norm.weight"}}.get(
        name, set()
    )


@every_encoder
@torch.no_grad()
def test_a_later_part_restarts_from_the_embeddings(name: str):
    encoder = deep_encoder(name)
    batch = CASES_BY_NAME[f"{name}-attention-token"].batch(random_texts(6, 6), word_ids=False)
    first, last = split_encoder(encoder, [2])
    embedded = getattr(first, "embeddings_project", lambda states: states)(first.embeddings(batch["input_ids"]))
    expected = last(inputs_embeds=embedded, attention_mask=batch["attention_mask"]).last_hidden_state
    output = last(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    torch.testing.assert_close(output, expected, **TOLERANCE)
    assert last.get_input_embeddings() is first.get_input_embeddings()
    assert not any("embeddings" in key for key in last.state_dict())


@pytest.mark.parametrize("name", ["gru", "deberta-v2"])
def test_other_encoders_are_refused(name: str):
    name_of_type = "rationale_gru" if name == "gru" else name
    with pytest.raises(
        ValueError, match=rf"type '{name_of_type}' cannot be split by depth. .* splittable are bert, roberta"
    ):
        PlmrForSequenceClassification.from_encoder_pretrained(
            AutoModel.from_config(ENCODERS[name].config()), special_token_ids=[0]
        )


@every_encoder
def test_a_pretrained_encoder_gives_its_weights(name: str, tmp_path):
    encoder = deep_encoder(name)
    encoder.save_pretrained(tmp_path)
    for source in (tmp_path, encoder):
        model = PlmrForSequenceClassification.from_encoder_pretrained(source, special_token_ids=[0], split_layer=2)
        ours = split_encoder(copy.deepcopy(encoder), model.config.reduction_layers)
        for part, expected in zip((*model.extractor.encoders, model.reader), ours, strict=True):
            for key, value in part.state_dict().items():
                torch.testing.assert_close(value, expected.state_dict()[key], **EXACT)
    plain = sum(weight.numel() for key, weight in encoder.named_parameters() if not key.startswith("pooler."))
    assert model.num_parameters() - plain < 0.15 * plain  # heads, norms and position biases


def test_the_embeddings_are_saved_once(tmp_path):
    model = plmr_model("bert")
    model.save_pretrained(tmp_path)
    keys = [key for key in load_file(tmp_path / "model.safetensors") if "word_embeddings" in key]
    assert keys == ["extractor.encoders.0.embeddings.word_embeddings.weight"]


def test_a_copy_stands_by_itself():
    model = plmr_model("electra")
    batch = CASES_BY_NAME["plmr-electra-token"].batch(random_texts(5, 9))
    other = copy.deepcopy(model.eval())
    with torch.no_grad():
        expected = model(**batch, rationale_ratio=0.5).logits
        for weight in other.parameters():
            weight += 1
        torch.testing.assert_close(model(**batch, rationale_ratio=0.5).logits, expected, **EXACT)


def test_every_loader_gives_the_saved_class(tmp_path):
    model, batch = plmr_model("bert").eval(), CASES_BY_NAME["plmr-bert-token"].batch(random_texts(5, 9))
    model.save_pretrained(tmp_path)
    for loader in (
        RationaleForSequenceClassification,
        AutoModelForSequenceClassification,
        PlmrForSequenceClassification,
    ):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is PlmrForSequenceClassification
        with torch.no_grad():
            torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits, **EXACT)


def test_a_two_player_checkpoint_is_no_plmr(tmp_path):
    CASES_BY_NAME["gru-zero-token"].model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="type 'rationale', not 'plmr'"):
        PlmrForSequenceClassification.from_pretrained(tmp_path)


# --- Configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "depth, split, layers",
    [(2, 1, [1]), (3, 2, [1, 2]), (4, 3, [2, 3]), (6, 4, [3, 4]), (12, 7, [6, 7]), (24, 13, [11, 12, 13])],
)
def test_defaults_follow_the_depth(depth: int, split: int, layers: list[int]):
    config = PlmrConfig(encoder_config=BertConfig(num_hidden_layers=depth))
    assert (config.split_layer, config.reduction_layers) == (split, layers)


def test_either_of_split_and_reduction_layers_is_enough():
    encoder = BertConfig()
    assert PlmrConfig(encoder_config=encoder, split_layer=5).reduction_layers == [4, 5]
    assert PlmrConfig(encoder_config=encoder, reduction_layers=[2, 6]).split_layer == 6


BAD_CONFIGS = {
    "nothing left to predict": ({"split_layer": 12}, "one of the 12 layers to extract and one to predict, but is 12"),
    "nothing to extract": ({"split_layer": 0}, "at least one of the 12 layers to extract"),
    "no reduction layer": ({"split_layer": 3, "reduction_layers": []}, r"end with split_layer = 3, but are \[\]"),
    "not ascending": ({"reduction_layers": [4, 3]}, "in ascending order"),
    "twice the same": ({"reduction_layers": [4, 4]}, "in ascending order"),
    "ends elsewhere": ({"split_layer": 5, "reduction_layers": [3, 4]}, "end with split_layer = 5"),
    "before the first": ({"reduction_layers": [0, 4]}, "counted from 1"),
    "schedule unknown": ({"sparsity_schedule": "cosine"}, "sparsity_schedule must be one of"),
    "another masking": ({"masking": "zero"}, r"masking must be one of \('attention',\)"),
    "one encoder for both": ({"share_encoder": True}, "share_encoder must be one of"),
    "layers of a wrong type": ({"reduction_layers": [1.5]}, "Field 'reduction_layers'"),
}


@pytest.mark.parametrize("changes, message", BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_bad_config_is_named(changes: dict, message: str):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        PlmrConfig(encoder_config=BertConfig(), **changes)


def test_a_config_without_an_encoder_makes_no_model():
    with pytest.raises(ValueError, match="needs encoder_config"):
        PlmrForSequenceClassification(PlmrConfig())


# --- Dim-Reduction layers --------------------------------------------------------------------------------------------


def test_schedules():
    linear = plmr_model("bert", layers=5, reduction_layers=[1, 2, 4])
    assert linear.shares(0.1) == pytest.approx([0.7, 0.4, 0.1])
    log = plmr_model("bert", layers=5, reduction_layers=[1, 2, 4], sparsity_schedule="log")
    low, high = math.exp(0.1), math.e
    expected = [math.log(low + (high - low) * 2 / 3), math.log(low + (high - low) / 3), 0.1]
    assert [float(share) for share in log.shares(0.1)] == pytest.approx(expected)
    for model in (linear, log):
        assert [float(share) for share in model.shares(1.0)] == pytest.approx([1, 1, 1])
        torch.testing.assert_close(
            torch.as_tensor(model.shares(torch.tensor([[0.1]]))[1]).item(), float(model.shares(0.1)[1])
        )


@pytest.mark.parametrize("level", ["token", "word"])
@torch.no_grad()
def test_every_stage_keeps_its_share_of_each_text(level: str):
    model = plmr_model("bert", layers=5, reduction_layers=[1, 2, 4], selection_level=level).eval()
    batch = CASES_BY_NAME["plmr-bert-token"].batch(random_texts(6, 20, 31))
    if level == "token":  # shares count words, so that every token is a word here
        batch["word_ids"] = torch.where(batch["word_ids"] < 0, -1, torch.arange(batch["word_ids"].shape[1]))
    inputs = model.prepare(**batch)
    available = inputs.units.first.sum(1)
    for budget, shares in (({"rationale_ratio": 0.25}, model.shares(0.25)), ({}, model.shares(0.2)[:-1])):
        masks = model.select(inputs, **budget).masks
        for mask, share in zip(masks, shares, strict=False):
            kept = (mask * inputs.units.first).sum(1)
            torch.testing.assert_close(kept, (share * available + 0.5).floor().clamp_min(1))
        for before, after in itertools.pairwise(masks):
            assert (after <= before).all()
    kept = (model.select(inputs, rationale_top_k=3).mask * inputs.units.first).sum(1)
    torch.testing.assert_close(kept, available.clamp_max(3).float())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", SPLITTABLE)
def test_no_stage_reads_what_one_before_has_pruned(name: str, training: bool):
    model = plmr_model(name, special_token_ids=[0, 1, 2, 3], classifier_dropout=0.0)
    inputs = model.prepare(**CASES_BY_NAME[f"plmr-{name}-token"].batch(random_texts(9, 14)))
    hidden, _ = model.eval().extractor(inputs, 0, None, None)
    mask = torch.zeros(hidden.shape[:2])
    mask[:, 2:6] = 1
    other = hidden + torch.randn_like(hidden) * (inputs.units.selectable & (mask == 0)).unsqueeze(-1)
    mask.requires_grad_(training)
    logits = [model.extractor(inputs, 1, states, mask)[1] for states in (hidden, other)]
    torch.testing.assert_close(logits[0][:, 2:6], logits[1][:, 2:6], **TOLERANCE)
    read = model.extractor(inputs, 1, hidden + torch.randn_like(hidden) * mask.unsqueeze(-1), mask)[1]
    assert (read[:, 2:6] - logits[0][:, 2:6]).abs().max() > 1e-2


def test_masks_are_cumulative_and_pruned_tokens_score_nothing():
    model = plmr_model("bert").train()
    inputs = model.prepare(**CASES_BY_NAME["plmr-bert-token"].batch(random_texts(30, 30)))
    first, last = model.select(inputs).masks
    assert (last <= first).all() and 0 < last.sum() < first.sum()
    with torch.no_grad():
        selection = model.eval().select(inputs)
    assert (selection.scores[selection.masks[0] == 0] == 0).all()
    assert (selection.scores[selection.masks[0] == 1] > 0).all()


# --- The objective ---------------------------------------------------------------------------------------------------


def training_output(model, batch, labels, full_text_weight: float = 2.0, match_weight: float = 1.0):
    """What PLMRTrainer computes with these weights."""
    set_seed(3)
    inputs = model.train().prepare(**batch, labels=labels)
    selection = model.select(inputs)
    output = objective(model, inputs, selection)
    output.add_losses(full_text_terms(model, inputs, selection, output.logits, full_text_weight, match_weight))
    return output


@pytest.mark.parametrize("layers", [[2], [1, 3]], ids=str)
def test_the_full_text_term_reads_the_states_before_any_pruning(layers: list[int]):
    options = {"classifier_dropout": 0.0, "special_token_ids": [0, 1, 2, 3]}
    model = plmr_model("bert", reduction_layers=layers, **options)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    batch, labels = CASES_BY_NAME["plmr-bert-token"].batch(random_texts(9, 14)), torch.tensor([0, 2])
    output = training_output(model, batch, labels, full_text_weight=0.5, match_weight=0.25)
    with torch.no_grad():
        inputs = model.prepare(**batch)
        first = model.extractor.encoders[0]
        states = first(attention_mask=inputs.real, **encoder_inputs(first, inputs)).last_hidden_state
        read = (inputs.units.selectable | inputs.context.bool()).long()
        states = model.reader(inputs_embeds=states, attention_mask=read).last_hidden_state
        pooled = (states * read.unsqueeze(-1)).sum(1) / read.sum(1, keepdim=True)
        expected = F.cross_entropy(model.predictor.classifier(pooled), labels)
    torch.testing.assert_close(output.losses["full_text"], 0.5 * expected)
    torch.testing.assert_close(output.losses["match"], 0.25 * (output.losses["cross_entropy"] - expected))
    names = ("cross_entropy", "full_text", "match", "compactness", "coherence")
    torch.testing.assert_close(output.loss, sum(output.losses[name] for name in names))


def test_the_printed_weights_cancel_the_full_text_and_the_default_ones_do_not():
    batch, labels = CASES_BY_NAME["plmr-bert-token"].batch(random_texts(9, 14)), torch.tensor([0, 2])
    for weight, remaining in ((1.0, 0.0), (2.0, 1.0)):
        losses = training_output(plmr_model("bert"), batch, labels, weight, match_weight=1.0).losses
        full_text = losses["full_text"] / weight
        total = losses["cross_entropy"] + losses["full_text"] + losses["match"]
        torch.testing.assert_close(total, 2 * losses["cross_entropy"] + remaining * full_text)
    defaults = {field.name: field.default for field in fields(PLMRArguments)}
    assert (defaults["full_text_weight"], defaults["match_weight"]) == (2.0, 1.0)


def test_match_is_taken_text_by_text():
    ours, full = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0])
    assert match(ours, full).item() == 0
    assert match(ours, full, base=2.0).item() == pytest.approx((0.5 + 2.0) / 2)


def test_terms_without_weight_cost_nothing():
    batch = CASES_BY_NAME["plmr-bert-token"].batch(random_texts(9, 14))
    losses = training_output(plmr_model("bert"), batch, torch.tensor([0, 2]), 0.0, 0.0).losses
    assert set(losses) == {"cross_entropy", "compactness", "coherence", "sparsity"}


def test_compactness_is_the_mean_over_the_dim_reduction_layers():
    model = plmr_model("bert", sparsity=0.2, sparsity_weight=1.0, coherence_weight=1.0)
    inputs = model.prepare(**CASES_BY_NAME["plmr-bert-token"].batch(random_texts(10, 10)), labels=torch.tensor([0, 1]))
    inputs = inputs._replace(units=single_units(inputs.units.selectable))
    everything = inputs.units.selectable.float()
    half = everything * (torch.arange(everything.shape[1]) <= 5)
    selection = model.eval().select(inputs)._replace(masks=(everything, half))
    losses = objective(model, inputs, selection).losses
    assert losses["compactness"].item() == pytest.approx((abs(1 - 0.6) + abs(0.5 - 0.2)) / 2)
    assert losses["coherence"].item() == pytest.approx((0 + 0.1) / 2)


# --- Methods on it ---------------------------------------------------------------------------------------------------


def test_frozen_embeddings_stay_so(tmp_path):
    model = plmr_model("electra")
    assert model.config.freeze_embeddings and model.shared_weights == []
    model.save_pretrained(tmp_path)
    for one in (model, AutoModelForSequenceClassification.from_pretrained(tmp_path).train()):
        frozen = {name for name, weight in one.named_parameters() if not weight.requires_grad}
        assert frozen == {name for name, _ in one.named_parameters() if "embeddings" in name}
    model.set_input_embeddings(torch.nn.Embedding(64, 8))
    assert model.shared_weights == []
    trained = plmr_model("electra", freeze_embeddings=False)
    assert all(weight.requires_grad for weight in trained.parameters())
    assert len(trained.shared_weights) > 4


def test_n2r_needs_frozen_embeddings(tmp_path):
    with pytest.raises(ValueError, match=r"share embeddings that are trained. Freeze them"):
        make_trainer(tmp_path, "n2r", "plmr", config={"freeze_embeddings": False})


def test_one_encoder_cannot_be_folded_and_split():
    with pytest.raises(ValueError, match="cannot be combined"):
        compose(FRTrainer, PLMRTrainer)


def test_the_trainer_of_plmr_trains_nothing_else(tmp_path):
    with pytest.raises(
        ValueError, match=r"has split_by_depth=False.* PlmrForSequenceClassification.from_encoder_pretrained"
    ):
        make_trainer(tmp_path, "plmr", "bert")


def test_fr_does_not_train_it(tmp_path):
    model, tokenizer = make_model("rnp", "plmr")
    with pytest.raises(ValueError, match=r"FRTrainer needs a model with share_encoder=True, but .*False"):
        FRTrainer(model, make_args(tmp_path), processing_class=tokenizer)


def test_the_attacker_has_layers_of_its_own_and_the_embeddings_of_the_model():
    model, _ = make_model("a2i", "plmr")
    add_attacker(model)
    first, own = model.extractor.encoders[0], model.attacker.encoders[0]
    assert own.embeddings.word_embeddings.weight is first.embeddings.word_embeddings.weight
    assert model.attacker.encoders[1].embeddings.word_embeddings is own.embeddings.word_embeddings
    trained = {id(w) for w in model.attacker.parameters() if w.requires_grad}
    assert trained and not trained & {id(w) for w in model.extractor.parameters()}
    assert issubclass(compose(PLMRTrainer, N2RTrainer, A2ITrainer), N2RTrainer)


# --- Shortened -------------------------------------------------------------------------------------------------------


def test_rows_are_grouped_at_the_least_cost():
    def cost(groups, lengths, call_cost):
        return sum(call_cost + len(group) * max(lengths[row] for row in group) for group in groups)

    generator = torch.Generator().manual_seed(0)
    for call_cost in (0, 3, 40):
        for _ in range(20):
            lengths = torch.randint(0, 30, (5,), generator=generator).tolist()
            groups = group_by_length(lengths, call_cost)
            rows = [row for row in range(5) if lengths[row]]
            assert sorted(row for group in groups for row in group) == rows
            every = (
                [[row for row, label in zip(rows, labels, strict=True) if label == group] for group in set(labels)]
                for labels in itertools.product(range(len(rows)), repeat=len(rows))
            )
            best = min(cost(groups, lengths, call_cost) for groups in every)
            assert cost(groups, lengths, call_cost) == pytest.approx(best)
    assert group_by_length([0, 0], 5) == []


@torch.no_grad()
def test_every_part_computes_what_is_left_alone():
    case = CASES_BY_NAME["plmr-bert-token"]
    model, batch, computed = case.model(), case.batch(random_texts(38, 38)), []
    for part in (*model.extractor.encoders, model.reader):
        part.register_forward_hook(lambda module, args, output: computed.append(output.last_hidden_state.shape[1]))
    batch["word_ids"] = torch.where(batch["word_ids"] < 0, -1, torch.arange(batch["word_ids"].shape[1]))
    model(**batch, rationale_ratio=0.2)
    # All; [CLS], [SEP] and 60 % of 38; [CLS] and 20 %.
    assert computed == [40, 2 + 23, 1 + 8]


@pytest.mark.parametrize("name", ["plmr-bert-token", "bert-attention-token"])
@torch.no_grad()
def test_lengths_are_exact_in_half_precision(name: str, monkeypatch):
    # In bfloat16 odd numbers above 256 are rounded: a sum of a mask is no length.
    options = {"special_token_ids": [0, 1, 2, 3]}
    model = plmr_model("bert", positions=512, **options) if name.startswith("plmr") else long_bert(**options)
    model = model.to(torch.bfloat16).eval()
    batch = CASES_BY_NAME[name].batch(random_texts(302, 259))
    mask = (batch["word_ids"] >= 0).float()
    lengths = []
    hook = model.reader.register_forward_hook(
        lambda module, args, output: lengths.append(output.last_hidden_state.shape[1])
    )
    shortened = model(**batch, rationale_mask=mask).logits
    hook.remove()
    assert max(lengths) == 303  # [CLS] and all words, without [SEP]
    monkeypatch.setattr("hf_rationale.text.attention.can_shorten", lambda *_: False)
    torch.testing.assert_close(shortened, model(**batch, rationale_mask=mask).logits, atol=0.1, rtol=0.02)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", [*(f"plmr-{name}-token" for name in SPLITTABLE), "bert-attention-token"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@torch.no_grad()
def test_shortened_is_masked_with_every_attention(name: str, implementation: str, dtype, monkeypatch):
    case = CASES_BY_NAME[name]
    model = case.model().to(dtype)
    model.set_attn_implementation(implementation)
    batch = case.batch(random_texts(5, 30, 2, 12))
    budget = {"rationale_ratio": 0.3}
    shortened = model(**batch, **budget)
    mask = {"rationale_mask": shortened.rationale_mask}  # in half precision two scores may tie by rounding
    shortened = model(**batch, **mask)
    monkeypatch.setattr("hf_rationale.text.attention.can_shorten", lambda *_: False)
    masked = model(**batch, **mask)
    tolerance = TOLERANCE if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.02}
    torch.testing.assert_close(shortened.logits, masked.logits, **tolerance)


@torch.no_grad()
def test_states_and_weights_are_those_of_the_whole_text():
    model, batch = (
        CASES_BY_NAME["plmr-bert-token"].model(),
        CASES_BY_NAME["plmr-bert-token"].batch(random_texts(5, 30)),
    )
    model.set_attn_implementation("eager")
    output = model(**batch, rationale_ratio=0.3, output_hidden_states=True, output_attentions=True)
    assert {states.shape[1] for states in output.hidden_states} == {batch["input_ids"].shape[1]}
    assert len(output.attentions) == 1  # the predictor has one layer of the four
    torch.testing.assert_close(model(**batch, rationale_ratio=0.3).logits, output.logits, **TOLERANCE)


@pytest.mark.parametrize("name", ["plmr-bert-token", "plmr-mpnet-token", "bert-attention-word"])
@torch.no_grad()
def test_compiled_in_one_graph_is_eager(name: str):
    # As a whole: shapes stay, and so nothing is shortened.
    torch.compiler.reset()  # the graphs of one forward count together, whatever the model, and eight are the most
    case = CASES_BY_NAME[name]
    model, batch = case.model(), case.batch(random_texts(5, 30, 2, 12))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for options in (
        {"rationale_ratio": 0.3},
        {"rationale_mask": model(**batch, rationale_ratio=0.3).rationale_mask},
        {"word_ids": None},
    ):
        inputs = batch | options
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, **TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plmr-bert-token", "plmr-mpnet-token", "bert-attention-word"])
@torch.no_grad()
def test_compiled_part_by_part_is_eager(name: str):
    # For any shape: shortened.
    case = CASES_BY_NAME[name]
    model, batch = case.model(), case.batch(random_texts(5, 30, 2, 12))
    expected = model(**batch, rationale_ratio=0.3).logits
    parts = model.extractor.encoders if name.startswith("plmr") else [model.extractor.encoder]
    for part in (*parts, model.reader):
        part.compile(backend="eager", dynamic=True)
    torch.testing.assert_close(model(**batch, rationale_ratio=0.3).logits, expected, **TOLERANCE)


def test_the_pipeline_answers(tmp_path):
    model, tokenizer = make_model("plmr", "plmr", selection_level="word")
    pipeline("rationale-classification", model=model.eval(), tokenizer=tokenizer).save_pretrained(tmp_path)
    pipe = pipeline("rationale-classification", model=str(tmp_path))
    texts = ["the beer was lovely and fresh today", "served in a tall glass by someone else , awful"]
    together = pipe(texts, batch_size=2, rationale_top_k=2)
    for text, result in zip(texts, together, strict=True):
        assert sum(len(span["text"].split()) for span in result["rationale"]) == 2
        assert all(text[span["start"] : span["end"]] == span["text"] for span in result["rationale"])
        alone = pipe(text, rationale_top_k=2)
        assert alone["rationale"][0]["text"] == result["rationale"][0]["text"]
        assert alone["score"] == pytest.approx(result["score"], abs=1e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["bert", "electra", "modernbert"])
def test_gradient_checkpointing_changes_nothing(name: str, implementation: str):
    batch, labels = CASES_BY_NAME[f"plmr-{name}-token"].batch(random_texts(9, 14)), torch.tensor([0, 2])
    model, gradients = plmr_model(name, special_token_ids=[0, 1, 2, 3]), []
    for checkpointing in (False, True):
        model.zero_grad()
        model.set_attn_implementation(implementation)
        if checkpointing:
            model.gradient_checkpointing_enable()
        training_output(model, batch, labels).loss.backward()
        gradients.append({key: weight.grad for key, weight in model.named_parameters() if weight.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient, atol=1e-6, rtol=1e-5)


def test_an_attacker_checkpoints_the_attention_that_it_has_run():
    # Its parts are a copy, with a config of their own; before its first pass that says "eager".
    batch, labels = CASES_BY_NAME["plmr-bert-token"].batch(random_texts(9, 14)), torch.tensor([0, 2])
    model, gradients = plmr_model("bert", special_token_ids=[0, 1, 2, 3]), []
    for checkpointing in (False, True):
        model.set_attn_implementation("eager")
        if checkpointing:
            model.gradient_checkpointing_enable()
        set_seed(3)
        add_attacker(model)
        model.train()
        sum(attack(model, model.prepare(**batch, labels=labels), 0.2)[0].values()).backward()
        gradients.append({name: weight.grad for name, weight in model.attacker.named_parameters()})
        model.drop_training_modules()
    for name, gradient in gradients[0].items():
        if gradient is not None:
            torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_shortened_states_are_zero_where_nothing_is_visible():
    encoder = deep_encoder("bert")
    ids = torch.tensor(random_texts(12, 12))
    visible = torch.zeros(2, 12)
    visible[0, 3], visible[1, 2:9] = 1, 1
    hidden = encode_shortened(encoder, visible, input_ids=ids, position_ids=torch.arange(12).expand(2, 12))
    assert torch.equal(hidden.abs().sum(-1) > 0, visible.bool())
