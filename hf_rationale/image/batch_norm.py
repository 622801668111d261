"""Freezing batch normalization in the course of a training."""

from __future__ import annotations

from transformers import TrainerCallback


class FreezeBatchNorm(TrainerCallback):
    r"""
    From a share of the training steps on, batch normalization uses its running statistics (`freeze_batch_norm` of
    [`RationaleImageConfig`]).

    In training mode, batch normalization brings the representations of every batch to the same scale, so that the norm
    that N2R's extractor maximizes hardly depends on what it selects. With fixed statistics it does.

    Args:
        after (`float`, *optional*, defaults to 0.4): the share. The statistics are those that the backbone has then,
            so begin with `predictor_first_ratio` of the same share.

    Raises:
        ValueError: if the share is not in [0, 1].

    Example:

    ```python
    >>> trainer = N2RTrainer(model=model, args=args, callbacks=[FreezeBatchNorm(0.4)], …)
    ```
    """

    def __init__(self, after: float = 0.4):
        if not 0 <= after <= 1:
            raise ValueError(f"after must be a share of the steps, in [0, 1], but is {after}")
        self.after = after

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step >= round(self.after * state.max_steps):
            model.config.freeze_batch_norm = True  # read by `train`, which every step calls
