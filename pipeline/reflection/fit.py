"""Train the calibrator and the mapper over the training users, resumable at every checkpoint (paper: Reflection Module).

Choices where the paper is silent:
1. One model is shared by all users ("model parameters are treated as states" could also mean one model per user).
2. Besides the calibrator the modal mapper is trained, because eq. 14 in our reading reaches nothing else. `trainable: calibrator`
   is the printed sentence, "We update the Balance Calibrator".
3. The step that is kept is the one with the best mean standardised score of the unperturbed images of the validation users
   (`keep: best`); step 0 competes too, so reflection is never worse on them than its starting point. `patience` ends a training
   by the same score; no other user's is looked at.
4. The randomness of step s follows from (seed, s) and the case, so a training that was killed goes on as if it had not been.
"""

from __future__ import annotations

from torch import Tensor, nn, optim

from pipeline.checkpoints import open_checkpoints
from pipeline.conditioning.conditioner import Conditioner
from pipeline.reflection.config import ReflectionConfig, Trainable
from pipeline.reflection.live import RowLogger
from pipeline.reflection.look_step import observe_look_step, validate_look
from pipeline.reflection.step import CaseBatch, ReflectionTools, observe_step, set_gradients, validate
from pipeline.training import CurveRow, Plan, TrainingState, run_training

STAGE = "reflection"
CURVE_COLUMNS = (
    "step",
    "loss",
    "loss_rank",
    "loss_calibration",
    "loss_semantic",
    "grad",
    "grad_rank",
    "grad_calibration",
    "grad_semantic",
    "reward",
    "score",
    "score_reference",
    "score_global",
    "mean_rank",
    "validation_score",
    "validation_reward",
    "validation_rank",
)


class ReflectionTraining:
    """A conditioner; every step sees the three losses of some cases."""

    def __init__(
        self,
        conditioner: Conditioner,
        train: CaseBatch,
        validation: CaseBatch,
        tools: ReflectionTools,
        config: ReflectionConfig,
        *,
        batches: list[list[int]],
        seed: int,
    ) -> None:
        self.conditioner, self.train, self.validation = conditioner, train, validation
        self.tools, self.config, self.batches, self.seed = tools, config, batches, seed
        self.parameters = list_trainable(conditioner, config.trainable)
        self.optimizer = optim.AdamW(self.parameters, lr=config.learning_rate, betas=(0.9, 0.999), weight_decay=config.weight_decay)

    def name_tensors(self) -> dict[str, Tensor]:
        """Return all of the conditioner, what is not trained included."""
        return self.conditioner.state_dict()

    def list_inputs(self) -> list[object]:
        """List all that decides the weights, but for the frozen models."""
        described = self.config.describe(with_looks=self.conditioner.look is not None)
        return [described, self.seed, self.batches, self.train, self.validation, self.conditioner.list_facts()]

    def take_step(self, step: int) -> CurveRow:
        """Take a step along the weighted sum of the losses' own gradients."""
        batch = self.train.select(self.batches[step])
        observe = observe_step if self.conditioner.look is None else observe_look_step
        losses, row = observe(self.conditioner, batch, self.tools, self.config, seed=self.seed, step=step)
        row |= set_gradients(losses, self.parameters, self.config)
        self.optimizer.step()
        return row

    def validate(self) -> CurveRow:
        """Score the unperturbed images of the validation cases."""
        score = validate if self.conditioner.look is None else validate_look
        return score(self.conditioner, self.validation, self.tools, self.config, seed=self.seed)


def list_trainable(conditioner: Conditioner, trainable: Trainable) -> list[nn.Parameter]:
    """Freeze what is not trained and return the parameters that are."""
    conditioner.mapper.requires_grad_(trainable == "calibrator+mapper")
    return [parameter for parameter in conditioner.parameters() if parameter.requires_grad]


def plan_training(config: ReflectionConfig) -> Plan:
    """Plan the steps, and which of their weights are kept."""
    options = {"score": "validation_score", "keep": config.keep, "stop_after": config.patience}
    return Plan(num_steps=config.num_steps, validate_every=config.validation_every, **options)


def fit_reflection(
    training: ReflectionTraining, *, identity: dict[str, str], checkpoint_every: int, log_row: RowLogger = lambda row: None
) -> TrainingState:
    """Run all steps (or go on after a kill) and leave the kept weights in the conditioner.

    `identity` names the weights of the frozen models; `log_row` gets every row of the curves.
    """
    plan, tools = plan_training(training.config), training.tools
    code = [fit_reflection, tools.diffusion, tools.encoder, tools.ranker, tools.project]
    with open_checkpoints(STAGE, code=code, inputs=(identity, training.list_inputs())) as checkpoints:
        return run_training(training, plan, checkpoints, checkpoint_every=checkpoint_every, label=STAGE, on_row=log_row)
