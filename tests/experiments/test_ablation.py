"""The ablation: each row adds one part, and nothing is trained twice."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from drawn import CONFIG, Drawn

from ihp_backend.experiments.ablation import ROWS, ablate, row_configs, table
from ihp_backend.network.parser import HumanParser
from ihp_backend.training.config import TrainConfig
from ihp_backend.training.run_folder import TrainerError


def flat(config: TrainConfig) -> dict[str, object]:
    fields = asdict(config)
    return {
        **{f"parser.{k}": v for k, v in fields.pop("parser").items()},
        **{f"sampling.{k}": v for k, v in fields.pop("sampling").items()},
        **fields,
    }


def test_each_row_differs_in_one_thing_from_the_one_before() -> None:
    configs = [flat(config) for config in row_configs(TrainConfig()).values()]
    changed = [sorted(k for k in a if a[k] != b[k]) for a, b in itertools.pairwise(configs)]
    assert changed == [
        ["parser.semantic", "sampling.drop_all"],
        ["parser.semantic"],
        ["sampling.random_sampling"],
        ["sampling.error_rounds"],
        ["parser.previous"],
        ["parser.late_fusion"],
        ["parser.prototypes"],
        ["sp_loss"],
        ["sp_loss"],
        ["parser.early_fusion"],
    ]
    assert configs[-1] == flat(TrainConfig())  # the last row is what is shipped
    assert len({(c["steps"], c["batch"], c["seed"]) for c in configs}) == 1


def test_finished_rows_are_kept(tmp_path: Path) -> None:
    measured: list[HumanParser] = []

    def measure(parser: HumanParser) -> dict[str, float]:
        measured.append(parser)
        return {"0 clicks": 0.25, "1 clicks": 0.5}

    base = replace(CONFIG, steps=1)
    rows = list(ROWS)[:3]
    found = ablate(base, Drawn(), tmp_path, measure, rows=rows[:2])
    assert [parser.config.semantic for parser in measured] == [True, False]
    found = ablate(base, Drawn(), tmp_path, measure, rows=rows)
    assert list(found) == rows
    assert len(measured) == 3
    assert json.loads((tmp_path / "ablation.json").read_text()) == found
    assert (tmp_path / "ablation.md").read_text() == table(found)
    assert "| class-agnostic clicks | 0.250 | 0.500 |" in table(found)
    assert list(ablate(base, Drawn(), tmp_path, measure, rows=rows[2:])) == rows  # earlier rows stay in the table
    with pytest.raises(TrainerError, match="measured on '', not on 'other photos'"):
        ablate(base, Drawn(), tmp_path, measure, rows=rows, measured_on="other photos")


@pytest.mark.parametrize("same_map", [True, False])
def test_class_agnostic_clicks_do_not_tell_parts_apart(same_map: bool) -> None:
    import torch

    torch.manual_seed(0)
    parser = HumanParser(replace(CONFIG.parser, semantic=not same_map)).eval()
    image, prev_mask = torch.rand(1, 3, 48, 32), torch.zeros(1, 24, 24, 16)
    face, coat = torch.zeros(1, 24, 48, 32), torch.zeros(1, 24, 48, 32)
    face[0, 13, 20:24, 10:14] = coat[0, 7, 20:24, 10:14] = 1
    with torch.inference_mode():
        same = torch.equal(parser(image, face, prev_mask).logits, parser(image, coat, prev_mask).logits)
    assert same is same_map
