"""The training loop: simulated clicks, a few rounds of errors, one step. ``Trainer.run`` reads from top to bottom."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from ihp_backend.data.sample import DataSet
from ihp_backend.network.parser import MASKED_IN_TRAINING, HumanParser, ParserOutput
from ihp_backend.network.precision import is_bf16_faster
from ihp_backend.parts import get_schema
from ihp_backend.training.batch import Batch
from ihp_backend.training.batches import Batches, read_backgrounds
from ihp_backend.training.config import TrainConfig
from ihp_backend.training.initial_weights import load_start
from ihp_backend.training.losses import keep_loss, training_loss
from ihp_backend.training.processes import Processes
from ihp_backend.training.run_folder import RunFolder, TrainerError

log = logging.getLogger(__name__)

_LOG_EVERY, _SAVE_EVERY = 50, 250
"""Steps."""
_LARGEST_GRADIENT = 5.0
"""Norm to which gradients are clipped."""


class Trainer:
    """Trains a parser in a folder, see ``RunFolder``."""

    def __init__(
        self,
        config: TrainConfig,
        data: DataSet,
        out: Path,
        *,
        validate: Callable[[HumanParser], dict[str, float]] | None = None,
        start: Path | None = None,
        forget_clicks: bool = False,
        device: str = "cpu",
        info: dict[str, Any] | None = None,
        processes: Processes | None = None,
        workers: int = 0,
    ) -> None:
        """Prepares the run, or picks it up where it stopped: with as many processes and workers as then, or others.

        Args:
            config: The run.
            data: Photos to train on.
            out: Folder of the run.
            validate: Measures a parser; its ``score`` picks the best checkpoint, the rest is logged.
            start: Weights of the backbone or of a whole parser to start from.
            forget_clicks: Of a parser take only what it does with the image, see ``load_start``.
            device: Where to train.
            info: Kept in info.json beside the weights, such as data, licence and command.
            processes: Who trains together. Each has its share of every batch; the first one validates and writes.
            workers: Processes that make the batches, for each that trains; 0: a thread.

        Raises:
            TrainerError: If the folder holds another run.
            ValueError: If a batch has no photo for some process.
        """
        self.config, self.validate, self.device = config, validate, torch.device(device)
        self.processes, self.workers = processes or Processes(), workers
        torch.manual_seed(config.seed)
        self.parser = HumanParser(config.parser, pretrained=config.pretrained)
        if start is not None:
            load_start(self.parser, start, forget_clicks=forget_clicks)
        if not config.backbone_rate:
            self.parser.backbone.requires_grad_(False)
        if config.last_layers:
            self.parser.decoder.requires_grad_(False)
            for layer in self.parser.decoder.last_layers:
                layer.requires_grad_(True)
        self.parser.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.known = copy.deepcopy(self.parser).requires_grad_(False).eval() if config.keep else None
        self.averaged = AveragedModel(
            self.parser,
            multi_avg_fn=get_ema_multi_avg_fn(config.average),
            use_buffers=True,
        )
        self.optimiser = torch.optim.AdamW(
            _groups(self.parser, config), lr=config.rate, weight_decay=config.weight_decay
        )
        self.batches = Batches(
            data,
            config.parser,
            config.sampling,
            size=config.batch,
            seed=config.seed,
            area=self._area,
            balance=config.balance,
            neighbours=config.neighbours,
            everyone=config.everyone if config.parser.previous else 0.0,
            views=config.views,
            backgrounds=read_backgrounds(config.backgrounds) if config.backgrounds else (),
            processes=self.processes,
        )
        power = config.rare_classes
        self.class_weights = self.batches.class_weights(power).to(self.device) if power else None
        self.classes = len(get_schema(config.parser.schema))
        self.step = 0
        self.best = -math.inf
        self.stale = 0
        self.validated = 0
        self.info = {**(info or {}), "training": asdict(config)}
        self.folder = RunFolder(out, config, writes=self.processes.is_first)
        if state := self.processes.from_first(lambda: self.folder.load_state(torch.device("cpu"))):
            self._resume(state)
        self.learning = self.processes.joined(_LearningPass(self.parser, uses_embedding=config.sp_loss != "none"))

    def run(self, until: int | None = None) -> None:
        """Trains to the last step, or to an earlier one of the same schedule.

        Raises:
            TrainerError: If the loss is not finite; last.pt holds the last good state.
            WriteError: If a file cannot be written; what was there is kept.
        """
        config, parser, device = self.config, self.parser, self.device
        stop = min(until or config.steps, config.steps)
        if config.patience and self.stale >= config.patience:
            return
        if 0 < self.step != self.validated and (self.step % config.validate_every == 0 or self.step == stop):
            self._validate()  # the run was stopped in the middle of it
        quiet = None if self.processes.is_first else True  # None: as TQDM_DISABLE says
        bar = tqdm(total=stop, initial=self.step, desc="train", unit="step", mininterval=5, disable=quiet)
        smooth: dict[str, float] = {}
        since = time.monotonic()

        for batch in self.batches.run(self.step, stop, workers=self.workers, pin_memory=device.type == "cuda"):
            # The learning rate rises linearly, then falls as a cosine.
            share = min(1.0, (self.step + 1) / config.warmup)
            share *= 0.5 + 0.5 * math.cos(math.pi * self.step / config.steps)
            for group in self.optimiser.param_groups:
                group["lr"] = group["peak"] * share

            images, accepted = batch.images.to(device), batch.accepted.to(device)
            unknown = batch.unknown.to(device)[:, :, None, None]
            features = []
            if not config.parser.early_fusion:  # clicks do not change the features: all rounds share them
                self._set_training()
                with self._autocast(), torch.set_grad_enabled(config.backbone_rate > 0):
                    features = parser.encode(images, images)

            # Rounds of error clicks, without gradient: the network answers, and what is wrong is clicked.
            prev_mask = accepted
            if any(batch.everyone):
                everyone = torch.tensor(batch.everyone, device=device)[:, None, None, None]
                no_clicks = torch.zeros_like(batch.click_maps(config.parser), device=device)
                logits = self._predicted(features, images, no_clicks, torch.zeros_like(accepted), unknown)
                prev_mask = torch.where(everyone, torch.maximum(logits.softmax(1), accepted), accepted)
            for _ in range(batch.error_rounds):
                maps = batch.click_maps(config.parser).to(device)
                logits = self._predicted(features, images, maps, prev_mask, unknown)
                batch.click_errors(logits, config.sampling)
                drops = batch.rng.random(len(images)) < config.drop_previous
                shown = torch.from_numpy(~drops | np.array(batch.everyone)).to(device)
                prev_mask = torch.where(shown[:, None, None, None], logits.softmax(1), accepted)

            # The pass that is trained on.
            self._set_training()
            maps = batch.click_maps(config.parser).to(device)
            with self._autocast():
                output = self.learning(features, images, maps, prev_mask)
            logits = output.logits.float().masked_fill(unknown, MASKED_IN_TRAINING)
            labels = batch.labels_at_half_size().to(device)
            loss, terms = training_loss(
                config, ParserOutput(logits, output.embedding.float()), labels, maps, batch.points, self.class_weights
            )

            if self.known is not None:
                with torch.no_grad(), self._autocast():
                    same = features if not config.backbone_rate else []  # a backbone that does not learn says the same
                    known = self.known.decode(same or self.known.encode(images, maps), maps, prev_mask).logits
                    known = known.float().masked_fill(unknown, MASKED_IN_TRAINING)
                kept = keep_loss(logits, known, labels, self.classes)
                loss, terms["keep"] = loss + config.keep * kept, kept.item()

            # The step; what is not finite reaches no weight.
            self._check("loss", loss.item(), batch)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parser.parameters(), _LARGEST_GRADIENT)
            self._check("norm of the gradient", norm.item(), batch)
            self.optimiser.step()
            self.averaged.update_parameters(parser)
            self.step += 1

            # The log, the state to resume from, and the validation that picks the best weights.
            bar.update()
            smooth = {k: v if k not in smooth else 0.98 * smooth[k] + 0.02 * v for k, v in terms.items()}
            is_last, is_validated = self.step == stop, self.step % config.validate_every == 0
            if self.step % _LOG_EVERY == 0 or is_last:
                means = self.processes.mean(smooth)
                bar.set_postfix({k: f"{v:.3f}" for k, v in means.items()})
                self.folder.log(self.step, {**means, "seconds": time.monotonic() - since})
                since = time.monotonic()
            if self.step % _SAVE_EVERY == 0 or is_validated or is_last:
                self._save_state()
            if is_validated or is_last:
                self._validate()
                if config.patience and self.stale >= config.patience:
                    log.info("no better score in %d validations: stopped early", self.stale)
                    break
        bar.close()

    def _predicted(
        self, features: Sequence[Tensor], images: Tensor, maps: Tensor, prev_mask: Tensor, unknown: Tensor
    ) -> Tensor:
        """Logits (N, K, H/2, W/2) as an annotator would get them, without gradient."""
        self.parser.eval()
        with torch.no_grad(), self._autocast():
            kept = [f.detach() for f in features] or self.parser.encode(images, maps)
            return self.parser.decode(kept, maps, prev_mask).logits.float().masked_fill(unknown, MASKED_IN_TRAINING)

    def _validate(self) -> None:
        self.validated = self.step
        self.best, self.stale = self.processes.from_first(self._measured)
        self._save_state()

    def _measured(self) -> tuple[float, int]:
        """The best score so far, and for how many validations it has not been beaten; the best weights are kept."""
        averaged = copy.deepcopy(self.averaged.module).eval()
        assert isinstance(averaged, HumanParser)
        found = self.validate(averaged) if self.validate else {"score": float(self.step)}
        self.folder.log(self.step, found)
        figures = ", ".join(f"{k} {v:.4f}" for k, v in found.items()) if self.validate else "not validated"
        log.info("step %d: %s", self.step, figures)
        if not found["score"] > self.best:
            return self.best, self.stale + 1
        self.folder.save_best(averaged, {**self.info, "step": self.step, "validation": found})
        return found["score"], 0

    def _save_state(self) -> None:
        self.folder.save_state(
            {
                "step": self.step,
                "best": self.best,
                "stale": self.stale,
                "validated": self.validated,
                "parser": self.parser.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            }
        )

    def _resume(self, state: dict[str, Any]) -> None:
        self.parser.load_state_dict(state["parser"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best, self.stale = state["step"], state["best"], state["stale"]
        self.validated = state["validated"]
        log.info("resuming at step %d", self.step)

    def _set_training(self) -> None:
        self.parser.train()
        if self.config.frozen_norms:
            for module in self.parser.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _autocast(self) -> torch.autocast:
        """Mixed precision where it is faster: on a GPU, and on a CPU with bf16 units in passes without gradient."""
        fast = is_bf16_faster(self.device) and (self.device.type == "cuda" or not torch.is_grad_enabled())
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast)

    def _area(self, step: int) -> float:
        return self.config.parser.area * (0.5 if step < self.config.small_share * self.config.steps else 1.0)

    def _check(self, what: str, value: float, batch: Batch) -> None:
        if not math.isfinite(value):
            photos = ", ".join(self._suspects(batch))
            raise TrainerError(
                f"the {what} is {value} at step {self.step}, photos {photos}; {self.folder.last_good_state}"
            )

    def _suspects(self, batch: Batch) -> list[str]:
        """Which photos of a batch alone make the network say what is no number; all of them where none does."""
        self.parser.train()  # the norms' statistics may be broken by now
        maps, bad = batch.click_maps(self.config.parser), []
        for i, name in enumerate(batch.names):
            one = (tensor[i : i + 1].to(self.device) for tensor in (batch.images, maps, batch.accepted))
            with torch.no_grad():
                if not self.parser(*one).logits.isfinite().all():
                    bad.append(name)
        return bad or batch.names


class _LearningPass(nn.Module):
    """The pass whose loss is learnt from, as one module, for several processes to share."""

    def __init__(self, parser: HumanParser, *, uses_embedding: bool) -> None:
        super().__init__()
        self.parser, self.uses_embedding = parser, uses_embedding

    def forward(self, features: list[Tensor], images: Tensor, maps: Tensor, prev_mask: Tensor) -> ParserOutput:
        """Decodes features, or those of the images and clicks where the list is empty."""
        logits, embedding = self.parser.decode(features or self.parser.encode(images, maps), maps, prev_mask)
        # What no loss uses gets no gradient: the processes must not wait for it.
        return ParserOutput(logits, embedding if self.uses_embedding else embedding.detach())


def _groups(parser: HumanParser, config: TrainConfig) -> list[dict[str, Any]]:
    """Backbone and decoder at their own rates; no decay on biases and norms."""
    groups = []
    for module, rate in ((parser.backbone, config.backbone_rate), (parser.decoder, config.rate)):
        decayed = [p for p in module.parameters() if p.ndim > 1]
        plain = [p for p in module.parameters() if p.ndim <= 1]
        groups += [
            {"params": decayed, "peak": rate, "lr": rate},
            {"params": plain, "peak": rate, "lr": rate, "weight_decay": 0.0},
        ]
    return groups
