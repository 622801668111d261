"""Models in the ONNX format, for runtimes without PyTorch."""

from __future__ import annotations

import os

import torch
from torch import nn

from .modeling.base import RationalePreTrainedModel
from .reading import evaluation_mode
from .text.pipeline import RationaleClassificationPipeline


OUTPUTS = ("logits", "rationale_mask", "rationale_scores")
_NOT_READ = ("offsets", "content")  # what the pipeline needs, and the model does not read
_EXAMPLE = "Two short sentences. They give the exported graph its inputs."


class _Graph(nn.Module):
    """A model whose inputs and outputs are tensors in a fixed order."""

    def __init__(self, model: RationalePreTrainedModel, names: tuple[str, ...]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(**dict(zip(self.names, inputs, strict=True)))
        return tuple(output[name] for name in OUTPUTS)


def export_onnx(pipe: RationaleClassificationPipeline, path: str | os.PathLike) -> tuple[str, ...]:
    r"""
    Write the model of a pipeline as one ONNX graph: extractor, selection and predictor. Texts can have any length up
    to the encoder's number of positions, and batches can have any size.

    The inputs are those that `pipe.preprocess` returns for a text, and the outputs are `logits`, `rationale_mask` and
    `rationale_scores` of [`RationaleClassifierOutput`]. The selection is that of the model's configuration.

    Args:
        pipe: a pipeline for single texts.
        path: for the graph. Large weights lie beside it, in a file whose name ends in `.data`.

    Returns:
        the names of the inputs.

    Raises:
        ImportError: if the packages onnx and onnxscript are missing.
        ValueError: if the model has a GRU, as models of sentences do, because PyTorch exports one for a single length
            of texts only. If the model decodes with a switch cost, whose dynamic program is not a graph.
    """
    try:
        from onnxscript import opset18 as op
    except ImportError:
        raise ImportError("export_onnx needs onnx and onnxscript: pip install onnx onnxscript onnxruntime") from None
    if any(isinstance(module, nn.GRU) for module in pipe.model.modules()):
        raise ValueError(
            f"A {type(pipe.model).__name__} with a GRU cannot be exported, because PyTorch fixes the length of the "
            "texts then. Serve it with PyTorch, where it is fast (docs/serve.md)."
        )
    if pipe.model.config.switch_cost:
        raise ValueError(
            "A model with a switch_cost cannot be exported, because its selection is not a graph. Set switch_cost to "
            "0."
        )

    def sort(values, stable=True, dim=-1, descending=False):
        """PyTorch exports no stable sort. TopK is stable, as of equal values the one with the lower index comes first
        (https://onnx.ai/onnx/operators/onnx__TopK.html)."""
        size = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
        return op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)

    inputs = {name: value for name, value in pipe.preprocess(_EXAMPLE).items() if isinstance(value, torch.Tensor)}
    # Two texts, because a batch of one would be taken as fixed.
    inputs = {name: torch.cat([value, value]) for name, value in inputs.items() if name not in _NOT_READ}
    names, dynamic = tuple(inputs), dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    graph = _Graph(pipe.model, names)
    with evaluation_mode(graph), torch.no_grad():
        program = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            input_names=list(names),
            output_names=list(OUTPUTS),
            dynamic_shapes=(tuple(dynamic for _ in names),),
            custom_translation_table={torch.ops.aten.sort.stable: sort},
            dynamo=True,
            verbose=False,
        )
    program.save(os.fspath(path))
    return names
