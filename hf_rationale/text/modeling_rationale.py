"""The two-player rationale classifier: an extractor selects tokens, and a predictor reads only these."""

from __future__ import annotations

import copy
import os

from torch import nn
from transformers import CONFIG_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedConfig, PreTrainedModel

from ..modeling.base import RationalePreTrainedModel
from .base import RationaleTextModel
from .configuration_rationale import RationaleConfig
from .encoders import build_encoder, load_encoder, load_weights
from .players import Extractor, Predictor


class RationaleForSequenceClassification(RationaleTextModel):
    r"""
    A text classifier that selects a rationale and decides from it alone (Lei et al. 2016).

    The extractor scores every token. The mask m is sampled in training and deterministic at evaluation. The predictor
    reads only the selected tokens: for a given mask, the logits do not depend on the content of the other tokens.

    Args:
        config ([`RationaleConfig`]): the configuration. The model has fresh weights. For pretrained ones, see
            [`~RationaleForSequenceClassification.from_encoder_pretrained`] and `from_pretrained`.
    """

    config_class = RationaleConfig

    def __init__(self, config: RationaleConfig):
        super().__init__(config)
        if config.extractor_config is None or config.predictor_config is None:
            raise ValueError(
                "A RationaleConfig needs extractor_config and predictor_config. To start from an encoder, use "
                "RationaleForSequenceClassification.from_encoder_pretrained(path_or_hub_id)."
            )
        self.num_labels = config.num_labels
        self.extractor = Extractor(config, build_encoder(config.extractor_config))
        own = None if config.share_encoder else build_encoder(config.predictor_config)
        self.predictor = Predictor(config, own)
        self.prepare_reader()
        if config.tie_word_embeddings and not config.share_encoder:
            tied = _embedding_name(self, self.reader)
            self._tied_weights_keys = {tied: _embedding_name(self, self.extractor.encoder)}
            self._keys_to_ignore_on_save = [tied]  # otherwise a Trainer that loads a checkpoint would miss it
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args, **kwargs):
        """As transformers', but for any rationale classifier: the result has the class that was saved."""
        if cls is RationaleForSequenceClassification and "config" not in kwargs:
            saved, _ = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **kwargs)
            if (model_type := saved.get("model_type")) in CONFIG_MAPPING:
                other = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(CONFIG_MAPPING[model_type], None)
                if isinstance(other, type) and issubclass(other, RationalePreTrainedModel) and other is not cls:
                    return other.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def from_encoder_pretrained(
        cls,
        encoder: str | os.PathLike | PreTrainedModel,
        predictor: str | os.PathLike | PreTrainedModel | None = None,
        tokenizer=None,
        **kwargs,
    ) -> RationaleForSequenceClassification:
        r"""
        A rationale classifier with fresh heads over pretrained encoders.

        Args:
            encoder: folder or Hub id of any transformers encoder, or the encoder itself (copied).
            predictor: the same for the predictor, if it should start from another encoder with the same tokenizer.
            tokenizer (*optional*): the encoder's tokenizer, which knows the special tokens. By default it is loaded
                from the encoder's folder.
            kwargs: fields of [`RationaleConfig`], such as `num_labels`, `id2label`, `sparsity`, `selection_level`.

        Raises:
            OSError: if the encoder does not exist.
            StrictDataclassError: if a field is out of range, or if the two encoders do not fit each other.
            TypeError: if the config has no such field.
        """
        if predictor is not None and kwargs.get("share_encoder"):
            raise ValueError("With share_encoder=True both players use one encoder, so leave predictor out.")
        extractor = load_encoder(encoder)
        predictor = extractor if predictor is None else load_encoder(predictor)
        config = cls.config_class(
            extractor_config=copy.deepcopy(extractor.config),
            predictor_config=None if kwargs.get("share_encoder") else copy.deepcopy(predictor.config),
            **cls._config_fields(encoder, extractor.config, tokenizer, kwargs),
        )
        model = cls(config)
        for part, source in zip(model.encoders, (extractor, predictor), strict=False):  # one if it is shared
            load_weights(part, source)
        model.tie_weights()
        return model.eval()

    @property
    def encoders(self) -> tuple[PreTrainedModel, ...]:
        """The extractor's encoder and the predictor's, or the one that they share."""
        if self.config.share_encoder:
            return (self.extractor.encoder,)
        return self.extractor.encoder, self.predictor.encoder


def _embedding_name(model: nn.Module, encoder: PreTrainedModel) -> str:
    weight = encoder.get_input_embeddings().weight
    return next(name for name, value in model.named_parameters(remove_duplicate=False) if value is weight)
