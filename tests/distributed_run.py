"""Trains rows of the common tester, and leaves what it saw in a folder; `test_trainer.py` runs it twice:

    python tests/distributed_run.py FOLDER ROWS ARGS
    python -m torch.distributed.run --nproc_per_node 2 tests/distributed_run.py FOLDER ROWS ARGS

ARGS are further training arguments, as JSON. An optimizer step sees the same eight texts in both.
"""

import json
import os
import sys
from pathlib import Path

import training_common
from safetensors.torch import save_file
from training_common import examples, step_logs, train_and_record


BATCH = 8


def main(folder: Path, rows: str, args: dict):
    processes = int(os.environ.get("WORLD_SIZE", 1))
    for method, backbone in getattr(training_common, rows):
        trainer, recorder, _ = train_and_record(
            folder / "runs",
            method,
            backbone,
            # Two micro-batches on each device, or four on the only one. Seven validation texts do not divide by two.
            per_device_train_batch_size=2,
            gradient_accumulation_steps=BATCH // (2 * processes),
            per_device_eval_batch_size=4 // processes,
            eval_strategy="epoch",
            **args,
        )
        assert trainer.accelerator.num_processes == processes
        metrics = trainer.evaluate(examples(backbone, 8, seed=2), metric_key_prefix="test")
        if trainer.is_world_process_zero():
            name = f"{method}-{backbone}"
            for kind, steps in (("gradients", recorder.gradients), ("weights", recorder.weights)):
                tensors = {f"{step}/{key}": value for step, entry in enumerate(steps) for key, value in entry.items()}
                save_file(tensors, folder / f"{name}.{kind}.safetensors")
            results = {
                "processes": processes,
                "logs": step_logs(trainer),
                "test": metrics,
                "threshold": trainer.model.config.rationale_threshold,
            }
            (folder / f"{name}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
