"""Images, masks and encoders that are not what they should be, and those that are in another form."""

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image
from training_common import make_model, tiny_bert
from transformers import ViTImageProcessorPil

from hf_rationale import (
    RationaleForImageClassification,
    RationaleImageClassificationPipeline,
    RationaleImageConfig,
)
from hf_rationale.image.encoding import encode_images, read_mask


MARKED = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)


@pytest.mark.parametrize(
    "mask",
    [
        MARKED,
        MARKED.tolist(),
        Image.fromarray(MARKED),
        Image.fromarray(MARKED * 255),
        Image.fromarray(MARKED * 255).convert("1"),
        Image.fromarray(MARKED * 200 + 20),  # as after JPEG
    ],
    ids=["array", "lists", "0 and 1", "0 and 255", "bits", "grey"],
)
def test_a_mask_may_have_several_forms(mask):
    assert (np.asarray(read_mask(mask, "The mask")) == MARKED * 255).all()


def test_a_mask_may_be_empty():
    assert not np.asarray(read_mask(Image.fromarray(MARKED * 0), "The mask")).any()


def test_a_mask_in_a_dataset_may_be_a_picture_of_0_and_1():
    size = {"height": 2, "width": 3}
    rows = Dataset.from_dict({"image": [np.stack([MARKED] * 3, axis=-1)], "rationale": [Image.fromarray(MARKED)]})
    assert encode_images(rows, ViTImageProcessorPil(size=size))["rationale"][0] == MARKED.flatten().tolist()


@pytest.mark.parametrize(
    "mask, reason",
    [([[1, 0], [1]], "its rows have no common length"), (5, "is a int"), ("mask.png", "is a str")],
)
def test_what_is_no_mask_is_refused(mask, reason):
    with pytest.raises(ValueError, match=rf"The mask must be a mask \(height, width\), but {reason}"):
        read_mask(mask, "The mask")


def test_a_text_encoder_is_refused(tmp_path):
    encoder, _ = tiny_bert(0.0)
    encoder.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="BertModel reads input_ids, and not the pixels of images"):
        RationaleForImageClassification.from_encoder_pretrained(tmp_path, num_labels=2)
    with pytest.raises(ValueError, match="BertModel reads input_ids, and not the pixels of images"):
        RationaleForImageClassification(RationaleImageConfig(backbone_config=encoder.config))


@pytest.fixture
def pipe() -> RationaleImageClassificationPipeline:
    model, _ = make_model(backbone="images")
    size = {"height": 12, "width": 12}
    return RationaleImageClassificationPipeline(model.eval(), image_processor=ViTImageProcessorPil(size=size))


def test_a_row_of_a_dataset_is_its_image(pipe):
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8))
    assert pipe({"image": image, "label": 1})["score"] == pipe(image)["score"]


@pytest.mark.parametrize(
    "value, reason",
    [
        (None, "is a NoneType"),
        (5, "is a int"),
        ({"label": 1}, "is a dict"),
        ({"image": None}, "is a NoneType"),
        ([[[1, 2], [3]]], "its rows have no common length"),
    ],
    ids=["nothing", "number", "no image", "row without image", "ragged"],
)
def test_what_is_no_image_is_refused(pipe, value, reason):
    with pytest.raises(ValueError, match=rf"The image must be an image \(.*\), but {reason}"):
        pipe(value)
