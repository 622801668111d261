"""Selective rationalization for transformers: classifiers that pick the words that matter and decide from those alone.

Importing this package registers its models with the Auto classes and its pipeline with transformers.
"""

from transformers import AutoConfig, AutoModel, AutoModelForImageClassification, AutoModelForSequenceClassification

from . import methods
from .compat import PIPELINE_REGISTRY
from .data import load_rationale_dataset
from .encoders.configuration_gru import GruConfig
from .encoders.modeling_gru import GruModel
from .encoders.tokenization_word_level import word_level_tokenizer
from .evaluation import evaluate_rationales
from .graph.configuration_graph import GraphRationaleConfig
from .graph.modeling_graph import RationaleForGraphClassification
from .graph.pipeline import GraphRationalePipeline
from .image.configuration_image import RationaleImageConfig
from .image.modeling_image import RationaleForImageClassification
from .image.pipeline import RationaleImageClassificationPipeline
from .methods import *  # noqa: F403  what is registered there is exported here
from .modeling.outputs import RationaleClassifierOutput
from .sentences.configuration_sentences import SentenceRationaleConfig
from .sentences.modeling_sentences import SentenceRationaleForSequenceClassification
from .text.collator import RationaleDataCollator
from .text.configuration_plmr import PlmrConfig
from .text.configuration_rationale import RationaleConfig
from .text.encoding import encode_rationale_dataset
from .text.modeling_plmr import PlmrForSequenceClassification
from .text.modeling_rationale import RationaleForSequenceClassification
from .text.pipeline import RationaleClassificationPipeline
from .trainer import RationaleTrainer
from .training_args import RationaleTrainingArguments
from .version import __version__


AutoConfig.register(GruConfig.model_type, GruConfig)
AutoModel.register(GruConfig, GruModel)
AutoConfig.register("rationale", RationaleConfig)
AutoModelForSequenceClassification.register(RationaleConfig, RationaleForSequenceClassification)
AutoConfig.register("plmr", PlmrConfig)
AutoModelForSequenceClassification.register(PlmrConfig, PlmrForSequenceClassification)
AutoConfig.register(SentenceRationaleConfig.model_type, SentenceRationaleConfig)
AutoModelForSequenceClassification.register(SentenceRationaleConfig, SentenceRationaleForSequenceClassification)
AutoConfig.register(GraphRationaleConfig.model_type, GraphRationaleConfig)
AutoModelForSequenceClassification.register(GraphRationaleConfig, RationaleForGraphClassification)
AutoConfig.register(RationaleImageConfig.model_type, RationaleImageConfig)
AutoModelForImageClassification.register(RationaleImageConfig, RationaleForImageClassification)
PIPELINE_REGISTRY.register_pipeline(
    "rationale-classification",
    pipeline_class=RationaleClassificationPipeline,
    pt_model=AutoModelForSequenceClassification,
    type="text",
)
PIPELINE_REGISTRY.register_pipeline(
    "rationale-image-classification",
    pipeline_class=RationaleImageClassificationPipeline,
    pt_model=AutoModelForImageClassification,
    type="image",
)
# A saved pipeline would otherwise ask its users to run code from the model's folder, but the code is in this package.
del RationaleClassificationPipeline._registered_impl
del RationaleImageClassificationPipeline._registered_impl

__all__ = [
    *methods.__all__,
    "GraphRationaleConfig",
    "GraphRationalePipeline",
    "GruConfig",
    "GruModel",
    "PlmrConfig",
    "PlmrForSequenceClassification",
    "RationaleClassificationPipeline",
    "RationaleClassifierOutput",
    "RationaleConfig",
    "RationaleDataCollator",
    "RationaleForGraphClassification",
    "RationaleForImageClassification",
    "RationaleForSequenceClassification",
    "RationaleImageClassificationPipeline",
    "RationaleImageConfig",
    "RationaleTrainer",
    "RationaleTrainingArguments",
    "SentenceRationaleConfig",
    "SentenceRationaleForSequenceClassification",
    "__version__",
    "encode_rationale_dataset",
    "evaluate_rationales",
    "load_rationale_dataset",
    "word_level_tokenizer",
]
