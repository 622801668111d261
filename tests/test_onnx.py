"""The ONNX graph of a model selects and predicts as the model does."""

import pytest
import torch
from training_common import make_model
from transformers import pipeline

from hf_rationale.onnx_export import OUTPUTS, export_onnx


TEXTS = ["the beer was lovely . it was fresh", "awful", "the glass was tall . " * 6]


@pytest.mark.slow  # half a minute each
@pytest.mark.parametrize(
    ("backbone", "fields"),
    [
        ("bert", {"selection_level": "sentence"}),
        ("bert", {"decoding": "threshold", "rationale_threshold": 0.45}),
        ("plmr", {"selection_level": "word"}),
    ],
)
def test_the_graph_gives_what_the_model_gives(tmp_path, backbone, fields):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, tokenizer = make_model(backbone=backbone, **fields)
    pipe = pipeline("rationale-classification", model=model, tokenizer=tokenizer)
    model.train()
    names = export_onnx(pipe, tmp_path / "model.onnx")
    assert all(module.training for module in model.modules())  # it is left as it was
    model.eval()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for text in TEXTS:
        read = pipe.preprocess(text)
        inputs = {name: torch.cat([read[name]] * 3) for name in names}
        found = session.run(list(OUTPUTS), {name: value.numpy() for name, value in inputs.items()})
        with torch.no_grad():
            expected = model(**inputs)
        for name, values in zip(OUTPUTS, found, strict=True):
            torch.testing.assert_close(torch.from_numpy(values), expected[name].float())


def test_models_that_are_no_graph_are_refused(tmp_path):
    pytest.importorskip("onnxscript")
    for fields, message in (({}, "with a GRU"), ({"decoding": "threshold", "switch_cost": 0.1}, "switch_cost")):
        model, tokenizer = make_model(backbone="bert" if fields else "gru", **fields)
        pipe = pipeline("rationale-classification", model=model, tokenizer=tokenizer)
        with pytest.raises(ValueError, match=message):
            export_onnx(pipe, tmp_path / "model.onnx")
