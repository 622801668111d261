"""Images, masks and encoders that are not what they should be, and those that are in another form."""

import numpy as np
import pytest
from PIL import Image
from training_common import make_model, tiny_bert
from transformers import ViTImageProcessorPil

from hf_rationale import RationaleForImageClassification, RationaleImageClassificationPipeline
from hf_rationale.image.encoding import read_mask


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


def test_a_text_encoder_is_refused():
    encoder, _ = tiny_bert(0.0)
    with pytest.raises(ValueError, match="BertModel reads input_ids, and not the pixels of images"):
        RationaleForImageClassification.from_encoder_pretrained(encoder, num_labels=2)


@pytest.fixture
def pipe() -> RationaleImageClassificationPipeline:
    model, _ = make_model(backbone="images")
    size = {"height": 12, "width": 12}
    return RationaleImageClassificationPipeline(model.eval(), image_processor=ViTImageProcessorPil(size=size))


def test_a_row_of_a_dataset_is_its_image(pipe):
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8))
    assert pipe({"image": image, "label": 1})["score"] == pipe(image)["score"]


@pytest.mark.parametrize("value", [None, {"label": 1}, [[[1, 2], [3]]]], ids=["nothing", "no image", "ragged"])
def test_what_is_no_image_is_refused(pipe, value):
    with pytest.raises(ValueError, match="The image must be an image"):
        pipe(value)
