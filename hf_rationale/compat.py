"""Everything that depends on the version of a dependency, in one place."""

from __future__ import annotations

from transformers import AttentionInterface, AttentionMaskInterface
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask, sdpa_mask
from transformers.pipelines import PIPELINE_REGISTRY


__all__ = [
    "PIPELINE_REGISTRY",
    "AttentionInterface",
    "AttentionMaskInterface",
    "create_bidirectional_mask",
    "init",
    "sdpa_mask",
]
