"""Everything that depends on the version of a dependency or is not part of its public API, with the reason."""

from __future__ import annotations

from torch.utils.data import Sampler
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel, Trainer
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.trainer_pt_utils import LengthGroupedSampler


# ALL_ATTENTION_FUNCTIONS: the masked attention calls sdpa where nothing is masked, and the public AttentionInterface
#   has no way to look a function up.
# MPNetEncoder: MPNet takes no positions, so its position bias is overridden in a subclass.
# create_bidirectional_mask, sdpa_mask: the masks of the attention interface; documented, but not exported.
# init: `_init_weights` has to use these functions, which leave loaded weights as they are.
# PIPELINE_REGISTRY: documented for custom pipelines, but not exported.
__all__ = [
    "ALL_ATTENTION_FUNCTIONS",
    "INFERRED_IMAGE_TASK",
    "INFERRED_TASK",
    "PIPELINE_REGISTRY",
    "AttentionInterface",
    "AttentionMaskInterface",
    "LengthGroupingTrainer",
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


class _NamedTasks(dict):
    """Tasks of a configuration by name, of which none is *in* it."""

    def __contains__(self, task: object) -> bool:
        return False


# `pipeline(model=…)` takes the task from `config.custom_pipelines` if there is just one. Of a task that is in it,
# transformers would run code from the model's folder, but this one is registered by this package.
INFERRED_TASK = _NamedTasks({"rationale-classification": {}})
INFERRED_IMAGE_TASK = _NamedTasks({"rationale-image-classification": {}})


class LengthGroupingTrainer(Trainer):
    """A Trainer that groups examples by length from a list of lengths. The Trainer itself passes on a column of the
    dataset, which is looked up anew for every comparison, and this takes more time than the training of a small model.
    There is no public way to pass on the list."""

    def _get_train_sampler(self, train_dataset=None) -> Sampler | None:
        return _with_list(super()._get_train_sampler(train_dataset))

    def _get_eval_sampler(self, eval_dataset) -> Sampler | None:
        return _with_list(super()._get_eval_sampler(eval_dataset))


def _with_list(sampler: Sampler | None) -> Sampler | None:
    if isinstance(sampler, LengthGroupedSampler):
        sampler.lengths = list(sampler.lengths)
    return sampler
