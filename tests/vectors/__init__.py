"""A small kind of input of its own: sets of vectors with a label. It shows what a kind of input has to define, and
goes through the common testers with every method that does not need words."""

from transformers import AutoConfig, AutoModelForSequenceClassification

from .configuration import VectorsConfig
from .data import toy_sets
from .modeling import RationaleForVectorsClassification


AutoConfig.register(VectorsConfig.model_type, VectorsConfig)
AutoModelForSequenceClassification.register(VectorsConfig, RationaleForVectorsClassification)

__all__ = ["RationaleForVectorsClassification", "VectorsConfig", "toy_sets"]
