"""Adapters of PEFT on every encoder: saved, loaded in all ways, and merged, they give the same."""

import pytest
import torch
from common import ENCODERS, ModelCase, plmr_model, random_texts, rationale_model
from peft import AutoPeftModelForSequenceClassification, IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification

from hf_rationale import RationaleForSequenceClassification


HEADS = [".norm", "selector", "classifier"]  # .norm: ModernBERT has an attn_norm, which may be no module with weights
ADAPTERS = {
    "lora": lambda inside: LoraConfig(
        task_type="SEQ_CLS", r=2, target_modules=inside, modules_to_save=HEADS, init_lora_weights="gaussian"
    ),
    "ia3": lambda inside: IA3Config(
        task_type="SEQ_CLS", target_modules=inside, feedforward_modules=[], modules_to_save=HEADS
    ),
}
SPLIT = ("bert", "roberta", "electra", "distilbert", "modernbert", "mpnet")
MAKERS = {
    **{name: rationale_model for name in ENCODERS if name != "gru"},  # a GRU has no linear layer to adapt
    **{f"plmr-{name}": plmr_model for name in SPLIT},
}


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("name", MAKERS)
def test_an_adapter_saves_loads_and_merges(tmp_path, name, kind):
    encoder = name.removeprefix("plmr-")
    case = ModelCase(name, lambda **options: MAKERS[name](encoder, **options), ENCODERS[encoder])
    case.model().save_pretrained(tmp_path / "base")
    base = RationaleForSequenceClassification.from_pretrained(tmp_path / "base")
    linear = [path for path, layer in base.named_modules() if isinstance(layer, nn.Linear)]
    model = get_peft_model(base, ADAPTERS[kind]([path for path in linear if not path.endswith(tuple(HEADS))]))
    with torch.no_grad():
        for weight in filter(lambda weight: weight.requires_grad, model.parameters()):
            weight += 0.05 * torch.randn_like(weight)  # as if it had been trained
    batch = case.batch(random_texts(9, 14))
    with torch.no_grad():
        expected = model.eval()(**batch)
        plain = case.model()(**batch)
    assert not torch.allclose(expected.logits, plain.logits)
    model.save_pretrained(tmp_path / "adapter")
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all(kind in key or any(head in key for head in HEADS) for key in saved)

    for loaded in (
        AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter"),
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter"),
        PeftModel.from_pretrained(case.model(), tmp_path / "adapter"),
    ):
        with torch.no_grad():
            output = loaded.eval()(**batch)
        assert torch.equal(output.logits, expected.logits) and torch.equal(
            output.rationale_mask, expected.rationale_mask
        )
    with torch.no_grad():
        merged = model.merge_and_unload()(**batch)
    torch.testing.assert_close(merged.logits, expected.logits, rtol=0, atol=1e-4)
    assert torch.equal(merged.rationale_mask, expected.rationale_mask)
