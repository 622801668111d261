"""Everything that depends on the version of a dependency or is not part of its public API, with the reason."""

from __future__ import annotations

from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder
from transformers.pipelines import PIPELINE_REGISTRY


# ALL_ATTENTION_FUNCTIONS: the masked attention calls sdpa where nothing is masked, and the public AttentionInterface
#   has no way to look a function up.
# MPNetEncoder: MPNet takes no positions, so its position bias is overridden in a subclass.
# create_bidirectional_mask, sdpa_mask: the masks of the attention interface; documented, but not exported.
# init: `_init_weights` has to use these functions, which leave loaded weights as they are.
# PIPELINE_REGISTRY: documented for custom pipelines, but not exported.
__all__ = [
    "ALL_ATTENTION_FUNCTIONS",
    "PIPELINE_REGISTRY",
    "AttentionInterface",
    "AttentionMaskInterface",
    "MPNetEncoder",
    "attention_implementation",
    "create_bidirectional_mask",
    "init",
    "sdpa_mask",
    "supports_attention_functions",
]


def attention_implementation(model: PreTrainedModel) -> str:
    """The name of the attention implementation of `model`. transformers has a public setter but no getter."""
    return model.config._attn_implementation or "eager"


def supports_attention_functions(model: PreTrainedModel) -> bool:
    """Whether the attention of `model` goes through the attention interface. There is no public name for this."""
    return bool(model._supports_attention_backend)
