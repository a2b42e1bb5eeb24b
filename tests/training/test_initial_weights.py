"""Weights to start from: of a backbone, of the same network, of another label set, without what clicks taught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from drawn import PARSER
from safetensors.torch import save_file

from ihp_backend.network.backbone import MobileNetV2
from ihp_backend.network.parser import HumanParser
from ihp_backend.training.initial_weights import load_start
from ihp_backend.training.run_folder import TrainerError


def test_weights_to_start_from(tmp_path: Path) -> None:
    trunk, parser, target = MobileNetV2(), HumanParser(PARSER), HumanParser(PARSER)
    save_file(trunk.state_dict(), tmp_path / "trunk.safetensors")
    save_file({k: v.contiguous() for k, v in parser.state_dict().items()}, tmp_path / "parser.safetensors")
    load_start(target, tmp_path / "trunk.safetensors")
    assert torch.equal(target.state_dict()["backbone.stem.weight"][:, :3], trunk.stem.weight)
    load_start(target, tmp_path / "parser.safetensors")
    assert torch.equal(target.decoder.fine.weight, parser.decoder.fine.weight)
    save_file({"decoder.coarse.weight": parser.decoder.coarse.weight.contiguous()}, tmp_path / "other.safetensors")
    with pytest.raises(TrainerError, match=r"does not fit.*no layer of the backbone"):
        load_start(HumanParser(PARSER), tmp_path / "other.safetensors")


def test_weights_of_another_label_set_give_what_fits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = HumanParser(PARSER)
    save_file({k: v.contiguous() for k, v in known.state_dict().items()}, tmp_path / "lip.safetensors")
    parser = HumanParser(replace(PARSER, schema="helen"))
    fresh = {k: v.clone() for k, v in parser.state_dict().items()}
    with caplog.at_level("INFO"):
        load_start(parser, tmp_path / "lip.safetensors")
    loaded, given = parser.state_dict(), known.state_dict()
    for name, value in loaded.items():
        expected = given[name] if given[name].shape == value.shape else fresh[name]
        assert torch.equal(value, expected), name
    assert torch.equal(loaded["decoder.at8.0.0.weight"], given["decoder.at8.0.0.weight"])
    assert not torch.equal(loaded["decoder.at8.0.0.weight"], fresh["decoder.at8.0.0.weight"])
    assert "decoder.fine" in caplog.text  # named, for it starts anew


@pytest.mark.parametrize("early_fusion", [True, False])
def test_a_start_that_forgets_clicks_sees_the_same(tmp_path: Path, early_fusion: bool) -> None:
    torch.manual_seed(1)
    known = HumanParser(replace(PARSER, early_fusion=False)).eval()
    save_file({k: v.contiguous() for k, v in known.state_dict().items()}, tmp_path / "parser.safetensors")
    parser = HumanParser(replace(PARSER, early_fusion=early_fusion, late_fusion=False, previous=False)).eval()
    fresh = {k: v.clone() for k, v in parser.state_dict().items()}
    load_start(parser, tmp_path / "parser.safetensors", forget_clicks=True)
    loaded, wanted = parser.state_dict(), known.state_dict()
    assert torch.equal(loaded["backbone.stem.weight"][:, :3], wanted["backbone.stem.weight"])
    assert torch.equal(loaded["backbone.stem.weight"][:, 3:], fresh["backbone.stem.weight"][:, 3:])
    at4 = "decoder.at4.0.0.weight"  # the image's channels, without the 48 of the clicks behind them
    assert torch.equal(loaded[at4], wanted[at4][:, :-48])
    similar = "decoder.similar.0.0.weight"
    assert torch.equal(loaded[similar][:, :32], wanted[similar][:, :32])
    assert torch.equal(loaded[similar][:, 32:], fresh[similar][:, 32:])
