"""`pipeline("rationale-image-classification")`: a label, and the pixels from which it was predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image
from transformers import Pipeline
from transformers.image_utils import load_image

from ..modeling.selection import BUDGETS, check_budget
from .encoding import normalize, read_image, resize, to_tensor
from .pictures import overlay


class RationaleImageClassificationPipeline(Pipeline):
    r"""
    Classifies images, and returns the pixels from which each label was predicted.

    Example:

    ```python
    >>> import hf_rationale
    >>> from transformers import pipeline

    >>> pipe = pipeline("rationale-image-classification", model="path-or-hub-id")
    >>> result = pipe("bird.jpg")
    >>> result["label"], result["score"], result["sparsity"]
    ('waterbird', 0.97, 0.12)
    >>> result["overlay"].save("bird-rationale.png")
    ```
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.model.main_input_name != "pixel_values" or not hasattr(self.model, "extractor"):
            raise ValueError(
                f"{type(self.model).__name__} selects no rationale. Train a rationale classifier from its encoder: "
                "RationaleForImageClassification.from_encoder_pretrained(…)."
            )

    def __call__(self, inputs, **kwargs) -> dict[str, Any] | list:
        r"""
        Args:
            inputs (an image, or a list or `Dataset` of them): an image is a PIL image, a file, a URL, or an array of
                bytes (height, width) or (height, width, 3). Of a row of a dataset, `image` is read.
            batch_size (`int`, *optional*): the number of images in a batch.
            rationale_ratio (`float`, *optional*): a budget: the share of each image to select, best scores first.
            rationale_top_k (`int`, *optional*): a budget: the number of patches to select.
            rationale_threshold (`float`, *optional*): select from this score on, instead of the model's threshold.
            top_k (`int` or `None`, *optional*): return this number of most probable labels, best first, as a list;
                with `None` all of them.

        Returns:
            for every image a dict: `label`, its probability `score`, `sparsity` (the share of the image that is
            selected), and three PIL images of the size that the model reads: `image` (after the processor's resizing
            and cropping), `mask` (255 where a pixel is selected) and `overlay` (the image, pale where nothing is
            selected). With `top_k` a list of such dicts, which share the images.

        Raises:
            ValueError: if an image cannot be read.
        """
        if isinstance(inputs, Dataset):
            if "image" not in inputs.column_names:
                raise ValueError(f"The dataset needs a column 'image', but has {inputs.column_names}.")
            inputs = [row["image"] for row in inputs.with_format(None).select_columns("image")]
        if isinstance(inputs, Sequence) and not isinstance(inputs, str):
            inputs = list(inputs)
            if not inputs:
                return []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, top_k: int | str | None = "", **kwargs):
        budget = {name: kwargs.pop(name, None) for name in BUDGETS}
        check_budget(*budget.values())
        if kwargs:
            raise TypeError(f"Unknown arguments: {sorted(kwargs)}; there are {[*BUDGETS, 'top_k', 'batch_size']}")
        if top_k not in ("", None) and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k must be a whole number of at least 1, or None for all labels, but is {top_k!r}")
        if not any(value is not None for value in budget.values()):
            budget = {}
        return {}, budget, {} if top_k == "" else {"top_k": top_k}

    def preprocess(self, inputs: Any) -> dict[str, Any]:
        if isinstance(inputs, Mapping) and "image" in inputs:
            inputs = inputs["image"]  # a row of a dataset
        image = load_image(inputs) if isinstance(inputs, str) else inputs
        pixels = to_tensor(resize(self.image_processor, read_image(image, "The image")))
        return {"pixel_values": normalize(pixels, self.image_processor), "pixels": pixels}

    def _forward(self, model_inputs: dict[str, Any], **budget) -> dict[str, Any]:
        pixel_values = model_inputs["pixel_values"]
        output = self.model(pixel_values, **budget)
        height, width = pixel_values.shape[2:]
        mask = self.model.marks(pixel_values).values(output.rationale_mask, height * width)
        return {
            "logits": output.logits,
            "mask": mask.view(-1, height, width),
            "pixels": model_inputs["pixels"],
        }

    def postprocess(
        self, outputs: dict[str, Any], top_k: int | str | None = ""
    ) -> dict[str, Any] | list[dict[str, Any]]:
        chosen = outputs["mask"][0].numpy() > 0
        image = Image.fromarray(outputs["pixels"][0].permute(1, 2, 0).numpy())
        mask = Image.fromarray(chosen.astype(np.uint8) * 255)
        shared = {
            "sparsity": round(float(chosen.mean()), 6),
            "image": image,
            "mask": mask,
            "overlay": overlay(image, mask),
        }
        probabilities = outputs["logits"][0].float().softmax(-1)
        count = {"": 1, None: len(probabilities)}.get(top_k, top_k)
        best = probabilities.topk(min(count, len(probabilities)))
        results = [
            {"label": self.model.config.id2label[index], "score": score, **shared}
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        return results[0] if top_k == "" else results
