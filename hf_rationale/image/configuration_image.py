"""Configuration of the rationale classifier over images."""

# No `from __future__ import annotations` here: `@strict` checks no type that is written as a string.

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig, ResNetConfig

from ..compat import INFERRED_IMAGE_TASK
from ..modeling.configuration import RationaleBaseConfig


def resnet18() -> ResNetConfig:
    """The configuration of ResNet-18 (He et al. 2016), the predictor of N2R's experiment on images."""
    return ResNetConfig(layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512])


@strict
class RationaleImageConfig(RationaleBaseConfig):
    r"""
    Configuration of [`RationaleForImageClassification`]. In addition to the fields of [`RationaleBaseConfig`]:

    Args:
        backbone_config (`PreTrainedConfig`, *optional*):
            The image encoder with which the predictor reads. By default that of ResNet-18. With `share_encoder` there
            is none.
        patch_size (`int`, *optional*, defaults to 1):
            The side of the square patches that are selected, in pixels. Height and width of the images must be
            multiples of it. 1 selects single pixels.
        unet_sizes (`list[int]`, *optional*, defaults to `[32, 64, 128]`):
            The widths of the levels of the extractor's U-Net. Every level has half of the resolution of the one
            before. The first has one state for every patch.
        fill (`str`, *optional*, defaults to `"mean"`):
            What the predictor sees where nothing is selected: `"mean"`, the zero of the normalized images, which is
            the mean color of the image processor, or `"learned"`, a color that is trained with the predictor.
        freeze_batch_norm (`bool`, *optional*, defaults to `False`):
            Whether batch normalization uses its running statistics in training as well, as it does at evaluation, and
            leaves them as they are. N2R needs this: the statistics of a batch cancel what the extractor changes in the
            norm of all representations together. A fresh backbone needs statistics first ([`FreezeBatchNorm`]).
        share_encoder (`bool`, *optional*, defaults to `False`):
            Whether both players read through the same encoder (FR): the down path of the U-Net.
    """

    model_type = "rationale_image"
    sub_configs = {"backbone_config": AutoConfig}
    auto_classes = {
        "AutoConfig": "RationaleImageConfig",
        "AutoModelForImageClassification": "RationaleForImageClassification",
    }
    custom_pipelines = INFERRED_IMAGE_TASK

    backbone_config: dict | PreTrainedConfig | None = None
    patch_size: int = 1
    unet_sizes: list[int] | tuple[int, ...] = (32, 64, 128)
    fill: str = "mean"
    freeze_batch_norm: bool = False
    share_encoder: bool = False

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.pooling = self.pooling or "mean"
        self.unet_sizes = list(self.unet_sizes)
        if self.backbone_config is None and not self.share_encoder:
            self.backbone_config = resnet18()

    @property
    def selection_level(self) -> str:
        """What is selected, for reports and model cards."""
        return "pixel" if self.patch_size == 1 else f"patch of {self.patch_size}×{self.patch_size} pixels"

    @property
    def num_channels(self) -> int:
        """The number of channels of the images."""
        return 3 if self.backbone_config is None else getattr(self.backbone_config, "num_channels", 3)

    def validate_image(self):
        """Raises `ValueError` if a field does not fit images."""
        # Smooth spans and spans at a cost run along one line, and an image has two dimensions. The encoder pools.
        self.check_choices(fill=("mean", "learned"), pooling=("mean",), mask_head=("positions",), switch_cost=(0,))
        if self.share_encoder and self.backbone_config is not None:
            raise ValueError("With share_encoder both players read with the U-Net. Leave out backbone_config.")
        if self.patch_size < 1:
            raise ValueError(f"patch_size must be at least 1, but is {self.patch_size}")
        if not self.unet_sizes or min(self.unet_sizes) < 1:
            raise ValueError(f"unet_sizes must be positive widths, but are {self.unet_sizes}")
