"""Selective rationalization for transformers: classifiers that pick the words that matter and decide from those alone.

Importing this package registers its models with the Auto classes and its pipeline with transformers.
"""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from .compat import PIPELINE_REGISTRY
from .configuration_gru import GruConfig
from .configuration_plmr import PlmrConfig
from .configuration_rationale import RationaleConfig
from .data import RationaleDataCollator, load_rationale_dataset
from .evaluation import evaluate_rationales
from .methods.a2i import A2ITrainer
from .methods.composition import compose
from .methods.fr import FRTrainer
from .methods.n2r import N2RMMITrainer, N2RTrainer
from .methods.nir import NIRTrainer
from .methods.plmr import PLMRTrainer
from .methods.ver import VERTrainer
from .modeling_gru import GruModel
from .modeling_outputs import RationaleClassifierOutput
from .modeling_plmr import PlmrForSequenceClassification
from .modeling_rationale import RationaleForSequenceClassification
from .pipelines import RationaleClassificationPipeline
from .tokenization_word_level import word_level_tokenizer
from .trainer import RationaleTrainer
from .training_args import RationaleTrainingArguments


__version__ = "0.1.0"

AutoConfig.register("gru", GruConfig)
AutoModel.register(GruConfig, GruModel)
AutoConfig.register("rationale", RationaleConfig)
AutoModelForSequenceClassification.register(RationaleConfig, RationaleForSequenceClassification)
AutoConfig.register("plmr", PlmrConfig)
AutoModelForSequenceClassification.register(PlmrConfig, PlmrForSequenceClassification)
PIPELINE_REGISTRY.register_pipeline(
    "rationale-classification",
    pipeline_class=RationaleClassificationPipeline,
    pt_model=AutoModelForSequenceClassification,
    type="text",
)
# Saving a pipeline would otherwise tell its readers to run code from the model's folder; this package is that code.
del RationaleClassificationPipeline._registered_impl

# The trainers by the name of their method, as on the command line.
METHODS = {
    "rnp": RationaleTrainer,
    "fr": FRTrainer,
    "n2r": N2RTrainer,
    "n2r_mmi": N2RMMITrainer,
    "ver": VERTrainer,
    "a2i": A2ITrainer,
    "nir": NIRTrainer,
    "plmr": PLMRTrainer,
}

__all__ = [
    "METHODS",
    "A2ITrainer",
    "FRTrainer",
    "GruConfig",
    "GruModel",
    "N2RMMITrainer",
    "N2RTrainer",
    "NIRTrainer",
    "PLMRTrainer",
    "PlmrConfig",
    "PlmrForSequenceClassification",
    "RationaleClassificationPipeline",
    "RationaleClassifierOutput",
    "RationaleConfig",
    "RationaleDataCollator",
    "RationaleForSequenceClassification",
    "RationaleTrainer",
    "RationaleTrainingArguments",
    "VERTrainer",
    "compose",
    "evaluate_rationales",
    "load_rationale_dataset",
    "word_level_tokenizer",
]
