"""Train a plain classifier: the predictor of a rationale model, which always reads everything.

    python benchmarks/plain_classifier.py --encoder gru --dataset tweets --data_dir data/tweets --output_dir out

The flags are those of `examples/train.py`, but `--method`. `validation_results.json` and `eval_results.json` in the
output folder have the accuracies, to compare with those of rationale models that were trained with the same flags.
"""

import runpy
import sys
from pathlib import Path

from torch.nn import functional as F

from hf_rationale import METHODS, RationaleClassifierOutput, RNPTrainer


class PlainTrainer(RNPTrainer):
    name = "plain"
    description = "A plain classifier, which reads everything."
    paper = ""

    def curriculum(self, model, inputs) -> RationaleClassifierOutput:
        everything = inputs.units.selectable.float()
        logits = model.predict(inputs, everything).logits
        loss = F.cross_entropy(logits.float(), inputs.labels)
        return RationaleClassifierOutput(
            loss=loss, logits=logits, rationale_mask=everything, losses={"cross_entropy": loss}
        )

    def prediction_step(self, model, inputs, *args, **kwargs):
        return super().prediction_step(model, {**inputs, "rationale_ratio": 1.0}, *args, **kwargs)


if __name__ == "__main__":
    METHODS[PlainTrainer.name] = PlainTrainer
    sys.argv += ["--method", PlainTrainer.name]
    runpy.run_path(str(Path(__file__).parent.parent / "examples" / "train.py"), run_name="__main__")
