"""Split-conformal calibration of the intervals, at the end of training."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.evaluation_data import evaluation_data
from callbacks.live_scoring import score_loaders
from callbacks.run_folder import run_folder, update_run_record
from numlm.calibration import LEAST_ANSWERS, Calibration
from numlm.metrics import LEVELS, column


class ConformalCalibration(Callback):
    """Calibrates the model's intervals on the validation split; comes before the evaluation.

    Only the answers that are new values take part (see `numlm.calibration`). Where there are too
    few of them the intervals stay the model's own, with a warning.
    """

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the validation split and set the levels, the same on every process."""
        start = time.monotonic()
        loader = evaluation_data(trainer).val_dataloader()
        (scorecard,) = score_loaders(trainer, pl_module, [loader], "Calibration")
        rows = scorecard.gathered_rows()
        new = column(rows, "slots", "level")[column(rows, "slots", "source") < 0]
        model: Any = pl_module.model
        calibration: Calibration = model.calibration
        if len(new) < LEAST_ANSWERS:
            rank_zero_warn(
                f"intervals are not calibrated: the model gave {len(new)} new values on the "
                f"validation split, but {LEAST_ANSWERS} are needed; raise data.val_samples"
            )
            return
        calibration.fit(new)
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            levels = {str(level): calibration.model_level(level / 100) for level in LEVELS}
            seconds = {"calibration": round(time.monotonic() - start, 1)}
            update_run_record(
                folder, {"calibration": {"answers": len(new), **levels}, "seconds": seconds}
            )
