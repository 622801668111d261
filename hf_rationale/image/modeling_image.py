"""The rationale classifier over images."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import AutoImageProcessor, AutoModel, PreTrainedConfig, PreTrainedModel

from ..compat import init
from ..modeling.base import RationalePreTrainedModel
from ..modeling.outputs import Prediction, RationaleClassifierOutput, RationaleInputs
from ..modeling.players import MaskPredictor, make_head
from ..modeling.selection import Marks, single_units
from ..text.encoders import load_encoder
from .configuration_image import RationaleImageConfig
from .encoding import ImageCollator, check_image_processor, encode_images
from .unet import DownPath, UNet
from .yardsticks import image_yardsticks


class ImageExtractor(nn.Module):
    """A U-Net and the mask predictor."""

    def __init__(self, config: RationaleImageConfig):
        super().__init__()
        self.unet = UNet(config.num_channels, config.patch_size, config.unet_sizes)
        self.mask_predictor = MaskPredictor(config, config.unet_sizes[0])

    def forward(self, inputs: RationaleInputs, stage: int, hidden, mask) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.unet(inputs.features["pixel_values"]).flatten(2).transpose(1, 2)
        return hidden, self.mask_predictor(hidden, inputs.units)


class Hide(nn.Module):
    """Puts the fill where nothing is selected."""

    def __init__(self, config: RationaleImageConfig):
        super().__init__()
        self.side = config.patch_size
        self.color = nn.Parameter(torch.zeros(config.num_channels)) if config.fill == "learned" else None

    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Images (batch, channels, height, width) of which only what `mask` (batch, patches) selects is left."""
        height, width = (length // self.side for length in images.shape[2:])
        visible = mask.view(-1, 1, height, width).repeat_interleave(self.side, 2).repeat_interleave(self.side, 3)
        images = images * visible
        return images if self.color is None else images + self.color.view(1, -1, 1, 1) * (1 - visible)


class ImagePredictor(nn.Module):
    """Hides what is not selected, and classifies the image that is left."""

    def __init__(self, config: RationaleImageConfig):
        super().__init__()
        self.hide = Hide(config)
        self.encoder = None if config.share_encoder else build_backbone(config.backbone_config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        width = config.unet_sizes[-1] if config.share_encoder else representation_size(self.encoder)
        self.classifier = make_head(config, width, config.num_labels)

    def forward(self, reader: nn.Module, inputs: RationaleInputs, mask: torch.Tensor, full_text=None) -> Prediction:
        images = self.hide(inputs.features["pixel_values"], mask)
        encoder = reader if self.encoder is None else self.encoder
        if isinstance(encoder, DownPath):
            representation, output = encoder(images)[-1].mean((2, 3)), {}
        else:
            output = encoder(images, **inputs.options)
            representation = pooled(output)
        logits = self.classifier(self.dropout(representation))
        return Prediction(logits, representation, output.get("hidden_states"), output.get("attentions"))


def build_backbone(config: PreTrainedConfig) -> PreTrainedModel:
    """An image encoder with fresh weights. Raises `ValueError` if it reads no images."""
    backbone = AutoModel.from_config(config, dtype=torch.get_default_dtype())
    if backbone.main_input_name != "pixel_values":
        raise ValueError(
            f"{type(backbone).__name__} reads {backbone.main_input_name}, and not the pixels of images. Name an image "
            "encoder, such as a ResNet or a ViT."
        )
    # transformers' own classifiers over a ViT read [CLS] without the dense layer of the pooler, and their checkpoints
    # do not have it. The poolers of convolutional networks have no such layer, and stay.
    if hasattr(getattr(backbone, "pooler", None), "dense"):
        backbone.pooler = None
    return backbone


def representation_size(backbone: PreTrainedModel) -> int:
    """The width of what an image encoder says of an image. Raises `ValueError` if it is not known."""
    config = backbone.config
    if hasattr(backbone, "timm_model"):  # the configuration of a model of timm has no widths
        return backbone.timm_model.head_hidden_size
    size = getattr(config, "hidden_size", None) or (getattr(config, "hidden_sizes", None) or [None])[-1]
    if size is None:
        raise ValueError(f"The width of a {config.model_type} is in neither hidden_size nor hidden_sizes.")
    return size


def pooled(output) -> torch.Tensor:
    """One vector (batch, width) of the output of an image encoder: its pooled output, or else [CLS] or the mean of a
    feature map."""
    if output.get("pooler_output") is not None:
        return output.pooler_output.flatten(1)
    hidden = output.last_hidden_state
    return hidden[:, 0] if hidden.dim() == 3 else hidden.mean((2, 3))


class RationaleForImageClassification(RationalePreTrainedModel):
    r"""
    A classifier of images that selects pixels, or square patches, and decides from these alone (N2R, appendix A.10).

    A U-Net scores every patch. The predictor, any image encoder of transformers, reads an image in which everything
    else has one fixed color, so that its decision depends on nothing but the selected pixels and their places. The
    coherence penalty compares every patch with its neighbours to the right and below.

    All methods can train it but PLMR, which splits a transformer by depth, NIR, which replaces words, and RTP, whose
    spans run along one line.

    Batch normalization, as in ResNet, makes the loss of an image depend on its batch, as in any training of such a
    network. At evaluation every image stands for itself.

    Args:
        config ([`RationaleImageConfig`]): the configuration. The model has fresh weights. For a pretrained encoder,
            see [`~RationaleForImageClassification.from_encoder_pretrained`].
    """

    config_class = RationaleImageConfig
    main_input_name = "pixel_values"
    example_name, mark_name = "image", "pixel"
    marks_form_spans = False
    processing_auto_class = AutoImageProcessor
    hub_task = "image-classification"
    usage = """import hf_rationale
from transformers import pipeline

pipe = pipeline("rationale-image-classification", model="{folder}")
result = pipe("image.png")  # label, score, image, mask and overlay
"""
    encoded_columns = ("pixels",)

    def __init__(self, config: RationaleImageConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.extractor = ImageExtractor(config)
        self.predictor = ImagePredictor(config)
        self.post_init()
        self.freeze_as_configured()

    @classmethod
    def from_encoder_pretrained(
        cls, encoder: str | os.PathLike | PreTrainedModel, **kwargs
    ) -> RationaleForImageClassification:
        r"""
        A classifier whose predictor reads with a pretrained image encoder. The extractor is fresh.

        Args:
            encoder: folder or Hub id of an image encoder or classifier of transformers, or the model itself (copied).
            kwargs: fields of [`RationaleImageConfig`], such as `num_labels`, `id2label`, `sparsity`, `patch_size`.

        Raises:
            OSError: if the encoder does not exist.
            StrictDataclassError: if a field is out of range.
            TypeError: if the config has no such field.
            ValueError: if the encoder reads no images, or with `share_encoder`, because both players then read with
                the U-Net.
        """
        cls.check_fields(kwargs)
        if kwargs.get("share_encoder"):
            raise ValueError(
                "With share_encoder both players read with the U-Net, and there is no other encoder. Make the model "
                "with RationaleForImageClassification(RationaleImageConfig(share_encoder=True, …))."
            )
        source = load_encoder(encoder)
        model = cls(cls.config_class(backbone_config=copy.deepcopy(source.config), **kwargs))
        # Without the pooler, where it is not used, and the head of a classifier of timm.
        used = model.predictor.encoder.state_dict()
        weights = {name: weight for name, weight in source.state_dict().items() if name in used}
        model.predictor.encoder.load_state_dict(weights)
        return model.eval()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, Hide) and module.color is not None:
            # Not zero: fresh networks without biases have no gradient, or a boundless one, at an image of zeros.
            init.normal_(module.color, std=self.config.initializer_range)

    def train(self, mode: bool = True):
        """As PyTorch's, but with `freeze_batch_norm`, batch normalization stays in evaluation mode."""
        super().train(mode)
        if self.config.freeze_batch_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    @property
    def reader(self) -> nn.Module:
        return self.extractor.unet.down if self.predictor.encoder is None else self.predictor.encoder

    def save_pretrained(self, *args, save_original_format: bool = False, **kwargs):
        """As transformers', but weights keep the names that they have in memory. transformers would save those of some
        backbones (ViT) by the names of older versions, and its Trainer could not load its own checkpoints."""
        super().save_pretrained(*args, save_original_format=save_original_format, **kwargs)

    # --- Forward -----------------------------------------------------------------------------------------------------

    def prepare(
        self,
        pixel_values: torch.Tensor,
        labels: torch.LongTensor | None = None,
        columns: dict[str, torch.Tensor] | None = None,
    ) -> RationaleInputs:
        """Cut the images into patches. Arguments as in `forward`."""
        side = self.config.patch_size
        if pixel_values.dim() != 4 or pixel_values.shape[1] != self.config.num_channels:
            raise ValueError(
                f"pixel_values must have the shape (batch, {self.config.num_channels}, height, width), but have "
                f"{tuple(pixel_values.shape)}"
            )
        height, width = pixel_values.shape[2:]
        if height % side or width % side:
            raise ValueError(
                f"The images have {height}×{width} pixels, which patches of {side}×{side} do not fill. Choose "
                "another size of the image processor, or another patch_size."
            )
        self.check_labels(labels, len(pixel_values))
        rows, columns_of_patches = height // side, width // side
        selectable = torch.ones(
            len(pixel_values), rows * columns_of_patches, dtype=torch.bool, device=pixel_values.device
        )
        edges = grid_edges(rows, columns_of_patches, pixel_values.device)
        return RationaleInputs(
            features={"pixel_values": pixel_values},
            real=selectable.long(),
            units=single_units(selectable, edges=edges.expand(len(pixel_values), -1, -1)),
            context=torch.zeros_like(selectable, dtype=pixel_values.dtype),
            marks=self.marks(pixel_values),
            labels=labels,
            columns=columns or {},
            options={},
        )

    def marks(self, pixel_values: torch.Tensor, **inputs) -> Marks:
        """People mark pixels."""
        height, width = pixel_values.shape[2:]
        side, pixels = self.config.patch_size, torch.arange(height * width, device=pixel_values.device)
        patches = pixels // width // side * (width // side) + pixels % width // side
        return Marks(patches.expand(len(pixel_values), -1), pixels.expand(len(pixel_values), -1))

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.LongTensor | None = None,
        columns: dict[str, torch.Tensor] | None = None,
        **options,
    ) -> RationaleClassifierOutput | tuple:
        r"""
        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch, channels, height, width)`): normalized images. The
                positions of the mask are the patches, row by row.
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*): class indices.
            columns (`dict[str, torch.Tensor]`, *optional*): further columns of a dataset, for a method's objective.
            options: as of [`RationalePreTrainedModel.rationalize`], such as `rationale_ratio`.

        Raises:
            ValueError: if the inputs are malformed.
        """
        return self.rationalize(self.prepare(pixel_values, labels, columns), **options)

    # --- Datasets ----------------------------------------------------------------------------------------------------

    def encode_dataset(
        self, dataset: Dataset, processing_class: Any, max_length: int | None = None, columns: tuple[str, ...] = ()
    ) -> Dataset:
        if max_length is not None:
            raise ValueError("max_length cuts texts, and there are none. The image processor has the size of images.")
        return encode_images(dataset, check_image_processor(processing_class), columns)

    def data_collator(self, processing_class: Any, columns: tuple[str, ...] = ()) -> Callable:
        return ImageCollator(check_image_processor(processing_class), columns)

    def is_encoded(self, dataset: Dataset) -> bool:
        return "pixels" in dataset.column_names

    def yardsticks(self, dataset: Dataset, sparsity: float, processing_class: Any) -> dict[str, dict[str, float]]:
        return image_yardsticks(dataset, sparsity, check_image_processor(processing_class), self.config.patch_size)


def grid_edges(rows: int, columns: int, device: torch.device | None = None) -> torch.LongTensor:
    """The pairs (edges, 2) of places of a grid, numbered row by row, of which one is right of or below the other."""
    places = torch.arange(rows * columns, device=device).view(rows, columns)
    right = torch.stack([places[:, :-1], places[:, 1:]], dim=-1).flatten(0, 1)
    below = torch.stack([places[:-1], places[1:]], dim=-1).flatten(0, 1)
    return torch.cat([right, below])
