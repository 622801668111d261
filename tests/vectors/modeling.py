"""The classifier of sets of vectors: what a kind of input adds to the core."""

import torch
from torch import nn

from hf_rationale.modeling.base import RationalePreTrainedModel
from hf_rationale.modeling.outputs import Prediction, RationaleInputs
from hf_rationale.modeling.players import MaskPredictor, make_head, pool
from hf_rationale.modeling.selection import marks_of_positions, single_units

from .configuration import VectorsConfig
from .data import SetCollator, encode_sets


class SetLayer(nn.Module):
    """Every vector is encoded together with the mean of the visible vectors."""

    def __init__(self, size: int, hidden_size: int):
        super().__init__()
        self.own, self.rest = nn.Linear(size, hidden_size), nn.Linear(size, hidden_size)

    def forward(self, vectors: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """States (batch, positions, hidden) of vectors (batch, positions, size) with `visible` (batch, positions)."""
        mean = (vectors * visible.unsqueeze(-1)).sum(1) / visible.sum(1, keepdim=True).clamp_min(1)
        return torch.tanh(self.own(vectors) + self.rest(mean).unsqueeze(1))


class SetExtractor(nn.Module):
    """A layer and a mask predictor for each stage of extraction, behind an embedding if the model is split."""

    def __init__(self, config: VectorsConfig, stages: int, embedding: nn.Module):
        super().__init__()
        size = config.hidden_size if config.split_by_depth else config.size
        self.embedding = embedding
        self.layers = nn.ModuleList(SetLayer(size, config.hidden_size) for _ in range(stages))
        self.mask_predictors = nn.ModuleList(MaskPredictor(config, config.hidden_size) for _ in range(stages))

    def forward(self, inputs: RationaleInputs, stage: int, hidden, mask) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.embedding(inputs.features["inputs"]) if hidden is None else hidden
        hidden = self.layers[stage](hidden, inputs.real * mask)
        return hidden, self.mask_predictors[stage](hidden, inputs.units)


class SetPredictor(nn.Module):
    """A layer that reads the selected vectors only (its own, or that of the extractor), pooling, and a classifier."""

    def __init__(self, config: VectorsConfig, encoder: SetLayer | None, embedding: nn.Module):
        super().__init__()
        self.encoder, self.pooling = encoder, config.pooling
        self.__dict__["embedding"] = embedding  # it belongs to the extractor
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = make_head(config, config.hidden_size, config.num_labels)

    def forward(self, reader: SetLayer, inputs: RationaleInputs, mask: torch.Tensor, full_text=None) -> Prediction:
        vectors = self.embedding(inputs.features["inputs"]) if full_text is None else full_text
        hidden = (reader if self.encoder is None else self.encoder)(vectors, mask)
        representation = pool(hidden, mask, self.pooling)
        return Prediction(self.classifier(self.dropout(representation)), representation, None, None)


class RationaleForVectorsClassification(RationalePreTrainedModel):
    """Selects vectors of a set, and classifies the set from these alone."""

    config_class = VectorsConfig
    main_input_name = "inputs"

    def __init__(self, config: VectorsConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        split = config.split_by_depth
        embedding = nn.Linear(config.size, config.hidden_size).requires_grad_(False) if split else nn.Identity()
        self.extractor = SetExtractor(config, 2 if split else 1, embedding)
        size = config.hidden_size if split else config.size
        own = None if config.share_encoder else SetLayer(size, config.hidden_size)
        self.predictor = SetPredictor(config, own, embedding)
        self.reads_full_text_from_states = split
        self.post_init()

    @property
    def reader(self) -> SetLayer:
        return self.extractor.layers[-1] if self.predictor.encoder is None else self.predictor.encoder

    def shares(self, sparsity):
        return [(1 + sparsity) / 2, sparsity] if self.config.split_by_depth else [sparsity]

    def freeze_as_configured(self):
        super().freeze_as_configured()
        self.extractor.embedding.requires_grad_(False)

    def prepare(self, inputs, vector_ids=None, labels=None, columns=None) -> RationaleInputs:
        self.check_labels(labels, len(inputs))
        if vector_ids is None:
            vector_ids = torch.arange(inputs.shape[1], device=inputs.device).expand(inputs.shape[:2])
        selectable = vector_ids >= 0
        no_edges = torch.zeros(len(inputs), 0, 2, dtype=torch.long, device=inputs.device)  # a set has no neighbours
        return RationaleInputs(
            features={"inputs": inputs},
            real=selectable.long(),
            units=single_units(selectable, edges=no_edges),
            context=torch.zeros_like(selectable, dtype=inputs.dtype),
            marks=self.marks(vector_ids),
            labels=labels,
            columns=columns or {},
            options={},
        )

    def marks(self, vector_ids, **inputs):
        return marks_of_positions(vector_ids)

    def forward(self, inputs, vector_ids=None, labels=None, columns=None, **options):
        return self.rationalize(self.prepare(inputs, vector_ids, labels, columns), **options)

    def encode_dataset(self, dataset, processing_class=None, max_length=None, columns=()):
        return encode_sets(dataset, columns)

    def data_collator(self, processing_class=None, columns=()):
        return SetCollator(columns)

    def is_encoded(self, dataset) -> bool:
        return "vector_ids" in dataset.column_names
