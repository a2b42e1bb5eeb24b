"""The training loop: simulated clicks, a few rounds of errors, one step. Reads from top to bottom."""

from __future__ import annotations

import copy
import csv
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from ihp_backend.data.sample import DataSet
from ihp_backend.files import replacing, write_whole
from ihp_backend.network.backbone import MobileNetV2
from ihp_backend.network.click_maps import localization_maps
from ihp_backend.network.decoder import prototype_similarity
from ihp_backend.network.parser import MASKED_LOGIT, HumanParser
from ihp_backend.network.precision import is_bf16_faster
from ihp_backend.network.weights import save_parser
from ihp_backend.simulation.sampling import error_clicks
from ihp_backend.training import losses
from ihp_backend.training.batches import Batch, Batches, at_half_size, read_backgrounds
from ihp_backend.training.config import TrainConfig

log = logging.getLogger(__name__)


class TrainerError(RuntimeError):
    """Training cannot go on; what was good is kept."""


class WriteError(TrainerError):
    """Files cannot be written, as on a full disk: another try may go well."""


class Trainer:
    """Trains a parser in a folder: config.json, log.csv, last.pt (to resume), best/ (weights to serve)."""

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
    ) -> None:
        """Prepares the run, or picks it up where it stopped.

        Args:
            config: The run.
            data: Photos to train on.
            out: Folder of the run.
            validate: Measures a parser; its ``score`` picks the best checkpoint, the rest is logged.
            start: Weights of the backbone or of a whole parser to start from.
            forget_clicks: Of a parser take only what it does with the image, see ``load_start``.
            device: Where to train.
            info: Kept in info.json beside the weights, such as data, licence and command.

        Raises:
            TrainerError: If the folder holds another run.
        """
        self.config, self.out, self.validate, self.device = config, out, validate, torch.device(device)
        torch.manual_seed(config.seed)
        self.parser = HumanParser(config.parser, pretrained=config.pretrained)
        if start is not None:
            load_start(self.parser, start, forget_clicks=forget_clicks)
        if not config.backbone_rate:
            self.parser.backbone.requires_grad_(False)
        self.parser.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedModel(
            self.parser,
            multi_avg_fn=get_ema_multi_avg_fn(config.average),  # type: ignore[no-untyped-call]
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
            views=config.views,
            backgrounds=read_backgrounds(config.backgrounds) if config.backgrounds else (),
        )
        power = config.rare_classes
        self.class_weights = self.batches.class_weights(power).to(self.device) if power else None
        self.step = 0
        self.best = -math.inf
        self.stale = 0
        self.validated = 0
        self.info = {**(info or {}), "training": asdict(config)}
        out.mkdir(parents=True, exist_ok=True)
        written = json.dumps(asdict(config), indent=1)
        known = out / "config.json"
        if known.exists() and known.read_text() != written:
            raise TrainerError(f"{known} belongs to a run with other options; take another --out, or remove it")
        write_whole(known, written)
        if (out / "last.pt").exists():
            self._resume()

    def run(self, until: int | None = None) -> None:
        """Trains to the last step, or to an earlier one of the same schedule.

        Raises:
            TrainerError: If the loss is not finite; last.pt holds the last good state.
        """
        config = self.config
        stop = min(until or config.steps, config.steps)
        if config.patience and self.stale >= config.patience:
            return
        if 0 < self.step != self.validated and (self.step % config.validate_every == 0 or self.step == stop):
            self._validate()  # the run was stopped in the middle of it
        bar = tqdm(total=stop, initial=self.step, desc="train", unit="step", mininterval=5)
        parts: dict[str, float] = {}
        since = time.monotonic()
        for batch in self.batches.run(self.step, stop):
            self._set_rates()
            loss, new = self._losses(batch)
            self._check("loss", loss.item(), batch)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(self.parser.parameters(), 5.0)
            self._check("norm of the gradient", norm.item(), batch)
            self.optimiser.step()
            self.averaged.update_parameters(self.parser)
            self.step += 1
            bar.update()
            parts = {k: v if k not in parts else 0.98 * parts[k] + 0.02 * v for k, v in new.items()}
            if self.step % 50 == 0 or self.step == stop:
                bar.set_postfix({k: f"{v:.3f}" for k, v in parts.items()})
                self._log({**parts, "seconds": time.monotonic() - since})
                since = time.monotonic()
            if self.step % 250 == 0 or self.step % config.validate_every == 0 or self.step == stop:
                self._save_state()
            if self.step % config.validate_every == 0 or self.step == stop:
                self._validate()
                if config.patience and self.stale >= config.patience:
                    log.info("no better score in %d validations: stopped early", self.stale)
                    break
        bar.close()

    def _check(self, what: str, value: float, batch: Batch) -> None:
        if math.isfinite(value):
            return
        last = self.out / "last.pt"
        kept = f"the last good state is in {last}" if last.exists() else "no state was saved before"
        raise TrainerError(
            f"the {what} is {value} at step {self.step}, photos {', '.join(self._suspects(batch))}; {kept}"
        )

    def _suspects(self, batch: Batch) -> list[str]:
        """Which photos of a batch alone make the network say what is no number; all of them where none does."""
        self.parser.train()  # the norms' statistics may be broken by now
        maps, bad = self._maps(batch, batch.images), []
        for i, name in enumerate(batch.names):
            one = (tensor[i : i + 1].to(self.device) for tensor in (batch.images, maps, batch.accepted))
            with torch.no_grad():
                if not self.parser(*one).logits.isfinite().all():
                    bad.append(name)
        return bad or batch.names

    def _losses(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """One training step's loss: rounds of error clicks without gradient, then the pass that is trained on."""
        config, parser = self.config, self.parser
        images, accepted = batch.images.to(self.device), batch.accepted.to(self.device)
        unknown = batch.unknown.to(self.device)[:, :, None, None]
        features: Sequence[Tensor] = ()
        if not config.parser.early_fusion:  # clicks do not change them
            self._set_training()
            with self._autocast(), torch.set_grad_enabled(config.backbone_rate > 0):
                features = parser.encode(images, images)
        previous = accepted
        for _ in range(int(batch.rng.integers(config.sampling.error_rounds + 1))):
            maps = self._maps(batch, images)
            parser.eval()
            with torch.no_grad(), self._autocast():
                known = [f.detach() for f in features] or parser.encode(images, maps)
                prediction = parser.decode(known, maps, previous).logits.float().masked_fill(unknown, MASKED_LOGIT)
            self._click_errors(batch, prediction)
            shown = torch.from_numpy(batch.rng.random(len(images)) >= config.drop_previous).to(self.device)
            previous = torch.where(shown[:, None, None, None], prediction.softmax(1), accepted)
        self._set_training()
        maps = self._maps(batch, images)
        with self._autocast():
            output = parser.decode(features or parser.encode(images, maps), maps, previous)
        logits = output.logits.float().masked_fill(unknown, MASKED_LOGIT)
        labels = at_half_size(batch.labels.to(self.device), batch.rng)
        if config.base_loss == "ce":
            found = {"ce": losses.cross_entropy(logits, labels, self.class_weights)}
        else:
            found = {"focal": losses.normalised_focal(logits, labels)}
        sparse = config.lovasz_stride
        found["lovasz"] = losses.lovasz_softmax(logits[:, :, ::sparse, ::sparse], labels[:, ::sparse, ::sparse])
        total = 0.5 * found[config.base_loss] + 0.5 * found["lovasz"]
        if config.sp_loss != "none":
            if config.sp_loss == "pairs":
                found["sp"] = losses.sp_pairs(output.embedding.float(), batch.points, 4)
            else:
                similarity = prototype_similarity(output.embedding.float(), maps)
                clicked = maps.amax((2, 3)) > 0
                found["sp"] = losses.sp_prototypes(similarity, clicked, labels[:, ::2, ::2])
            total = total + config.sp_weight * found["sp"]
        return total, {k: v.item() for k, v in found.items()}

    def _set_training(self) -> None:
        self.parser.train()
        if self.config.frozen_norms:
            for module in self.parser.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _maps(self, batch: Batch, images: Tensor) -> Tensor:
        parser = self.config.parser
        height, width = images.shape[-2:]
        maps = [
            localization_maps(p, parser.channels, height, width, kind=parser.maps, size=parser.map_size)
            for p in batch.points
        ]
        tensor = torch.from_numpy(np.stack(maps)).to(self.device)
        return tensor.contiguous(memory_format=torch.channels_last)

    def _click_errors(self, batch: Batch, logits: Tensor) -> None:
        """Adds clicks where the network is wrong, up to half a click a part."""
        predictions = logits.argmax(1).to(torch.uint8).cpu().numpy()
        truths = batch.labels[:, ::2, ::2].to(torch.uint8).numpy()
        for i, (predicted, truth) in enumerate(zip(predictions, truths, strict=True)):
            if batch.no_clicks_allowed[i] or (not batch.points[i] and batch.rng.random() < 0.7):
                continue  # most photos without clicks stay so
            count = 1 + int(batch.rng.integers(max(1, len(np.unique(truth)) // 2)))
            batch.points[i] += error_clicks(predicted, truth, count, batch.rng, self.config.sampling, scale=2.0)

    def _area(self, step: int) -> float:
        return self.config.parser.area * (0.5 if step < self.config.small_share * self.config.steps else 1.0)

    def _autocast(self) -> torch.autocast:
        """Mixed precision where it is faster: on a GPU, and on a CPU with bf16 units in passes without gradient."""
        fast = is_bf16_faster(self.device) and (self.device.type == "cuda" or not torch.is_grad_enabled())
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast)

    def _set_rates(self) -> None:
        config = self.config
        warm = min(1.0, (self.step + 1) / config.warmup)
        share = warm * (0.5 + 0.5 * math.cos(math.pi * self.step / config.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * share

    def _validate(self) -> None:
        averaged = copy.deepcopy(self.averaged.module).eval()
        assert isinstance(averaged, HumanParser)
        found = self.validate(averaged) if self.validate else {"score": float(self.step)}
        self._log(found)
        log.info("step %d: %s", self.step, ", ".join(f"{k} {v:.4f}" for k, v in found.items()))
        self.stale += 1
        self.validated = self.step
        if found["score"] > self.best:
            self.best, self.stale = found["score"], 0
            try:
                save_parser(averaged, self.out / "best", {**self.info, "step": self.step, "validation": found})
            except OSError as error:
                raise WriteError(f"{self.out / 'best'} cannot be written ({error}); what was there is kept") from error
        self._save_state()

    def _log(self, values: dict[str, float]) -> None:
        with (self.out / "log.csv").open("a", newline="") as file:
            csv.writer(file).writerows((self.step, k, f"{v:.6g}") for k, v in values.items())

    def _save_state(self) -> None:
        state = {
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
            "validated": self.validated,
            "parser": self.parser.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        last = self.out / "last.pt"
        try:
            with replacing(last) as new:
                torch.save(state, new)
        except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
            raise WriteError(f"{last} cannot be written ({error}); the state before it is kept") from error

    def _resume(self) -> None:
        last = self.out / "last.pt"
        try:
            state = torch.load(last, map_location=self.device, weights_only=True)
        except (RuntimeError, OSError, EOFError, UnpicklingError) as error:
            raise TrainerError(f"{last} is no training state, or damaged; remove it to start the run over") from error
        self.parser.load_state_dict(state["parser"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best, self.stale = state["step"], state["best"], state["stale"]
        self.validated = state["validated"]
        if (written := self.out / "log.csv").exists():  # what came after the state, half a line perhaps, comes again
            rows = [row for row in csv.reader(written.read_text().splitlines()) if len(row) == 3]
            kept = [",".join(row) + "\n" for row in rows if row[0].isdecimal() and int(row[0]) <= self.step]
            write_whole(written, "".join(kept))
        log.info("resuming at step %d", self.step)


def load_start(parser: HumanParser, path: Path, *, forget_clicks: bool = False) -> None:
    """Loads weights to start from: a backbone's, or a whole parser's.

    Args:
        parser: The network to start.
        path: A safetensors file.
        forget_clicks: Take of a parser only what it does with the image; what it does with clicks is learnt anew. Then
            the parser may have other components than the one that it starts from.

    Raises:
        TrainerError: If they fit neither.
    """
    try:
        weights = load_file(path)
        if "stem.weight" in weights and isinstance(parser.backbone, MobileNetV2):
            parser.backbone.load_image_weights(weights)
            return
        weights.setdefault("prior", parser.prior)  # weights of an older release have none
        stem = "backbone.stem.weight"
        if stem in weights and not parser.config.early_fusion:  # weights of early fusion start without it
            weights[stem] = weights[stem][:, :3]
        if forget_clicks:
            parser.load_state_dict(_seeing_only(parser, weights))
        else:
            parser.load_state_dict(_what_fits(parser, weights, path))
    except SafetensorError as error:
        raise TrainerError(f"{path} is not a safetensors file: {error}") from error
    except (RuntimeError, KeyError) as error:
        raise TrainerError(f"{path} does not fit this network: {error}") from error


def _what_fits(parser: HumanParser, weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The parser's own weights, with those taken from others that have the same name and shape.

    So weights of another label set give all but the layers that know its channels.
    """
    own = parser.state_dict()
    found = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not any(name.startswith("backbone.") for name in found):
        raise KeyError(f"no layer of the backbone, {parser.config.backbone}, is in it")
    if new := sorted({name.rsplit(".", 1)[0] for name in own if name not in found}):
        log.info("%s does not fit in %d layers, which start anew: %s", path, len(new), ", ".join(new))
    return {**own, **found}


def _seeing_only(parser: HumanParser, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parser's own weights, with those that look at the image taken from others.

    Wherever image and clicks meet, the image's channels come first.
    """
    blind = replace(parser.config, early_fusion=False, late_fusion=False, previous=False, prototypes=False)
    own = parser.state_dict()
    for name, shape in {k: v.shape for k, v in HumanParser(blind).state_dict().items()}.items():
        corner = tuple(slice(n) for n in shape)
        own[name][corner] = weights[name][corner]
    return own


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
