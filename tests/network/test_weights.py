"""Weights on disk: there and back, damaged, unknown, shipped."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from untrained import inputs

from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import SHIPPED, WeightsError, find_weights, load_parser, save_parser
from ihp_backend.network.weights_folder import schema_of


def test_weights_there_and_back(parser: HumanParser, tmp_path: Path) -> None:
    save_parser(parser, tmp_path / "w", {"version": "w-1", "licence": "none"})
    again, info = load_parser(tmp_path / "w")
    assert (info["version"], info["licence"]) == ("w-1", "none")
    assert again.config == parser.config
    with torch.inference_mode():
        assert torch.equal(again(*inputs()).logits, parser(*inputs()).logits)
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == ["info.json", "model.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_on_disk_is_half_the_size_and_float32_in_memory(
    parser: HumanParser, tmp_path: Path, dtype: torch.dtype
) -> None:
    save_parser(parser, tmp_path / "full", {})
    save_parser(parser, tmp_path / "half", {}, dtype=dtype)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    again, _ = load_parser(tmp_path / "half")
    for name, value in parser.state_dict().items():
        found = again.state_dict()[name]
        assert found.dtype == value.dtype
        expected = value.to(dtype).float() if value.is_floating_point() else value
        assert torch.equal(found.to(expected.dtype), expected), name


def test_values_that_half_precision_cannot_hold_are_refused(parser: HumanParser, tmp_path: Path) -> None:
    huge = HumanParser(parser.config)
    huge.prior.fill_(1e6)
    save_parser(huge, tmp_path / "full", {})
    with pytest.raises(ValueError, match=r"prior.*float16.*store torch\.float32"):
        save_parser(huge, tmp_path / "half", {}, dtype=torch.float16)
    assert not (tmp_path / "half").exists()


def test_numbers_of_another_kind_are_refused(parser: HumanParser, tmp_path: Path) -> None:
    save_parser(parser, tmp_path, {})
    file = tmp_path / "model.safetensors"
    save_file({name: v.double() if name == "prior" else v for name, v in load_file(file).items()}, file)
    with pytest.raises(WeightsError, match=r"prior has torch\.float64; expected torch\.float32 or torch\.float16"):
        load_parser(tmp_path)


@pytest.mark.parametrize("fault", ["missing", "truncated", "garbage", "other network", "no architecture", "not json"])
def test_damaged_weights_are_named(parser: HumanParser, tmp_path: Path, fault: str) -> None:
    save_parser(parser, tmp_path, {})
    model, info = tmp_path / "model.safetensors", tmp_path / "info.json"
    if fault == "missing":
        model.unlink()
    elif fault == "truncated":
        model.write_bytes(model.read_bytes()[:1000])
    elif fault == "garbage":
        model.write_bytes(b"\xff" * 4096)
    elif fault == "other network":
        content = json.loads(info.read_text())
        content["architecture"]["width"] = 48
        info.write_text(json.dumps(content))
    elif fault == "no architecture":
        info.write_text("{}")
    else:
        info.write_text("{")
    with pytest.raises(WeightsError, match=str(tmp_path)):
        load_parser(tmp_path)


def test_unknown_weights_list_the_known_ones() -> None:
    with pytest.raises(WeightsError, match=r"nothing-of-this-name.*lip"):
        find_weights("nothing-of-this-name")


def test_unknown_options_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"colour.*late_fusion"):
        ParserConfig.from_dict({"colour": 1})


def test_options_of_older_releases_have_their_names_of_today() -> None:
    found = ParserConfig.from_dict({"spares": 2, "own": ["Bag"]})
    assert (found.open_channels, found.custom_classes) == (2, ("Bag",))
    info = {"architecture": {"schema": "lip", "own": ["Bag"]}}
    assert schema_of(info) == schema_of({"architecture": found.to_dict()})
    assert schema_of(info).names[-1] == "Bag"


def test_the_shipped_weights_load_and_are_small() -> None:
    parser, info = load_parser(SHIPPED / "lip")
    assert parser.config.schema == "lip"
    assert info["version"]
    assert (SHIPPED / "lip" / "model.safetensors").stat().st_size < 20_000_000
    values = np.concatenate([v.float().flatten().numpy() for v in parser.state_dict().values()])
    assert np.isfinite(values).all()


def test_a_full_disk_is_an_error_of_the_disk(parser: HumanParser, tmp_path: Path) -> None:
    """Files may grow to 100 KB: what a full disk does to the writer."""
    save_parser(parser, tmp_path, {"version": "w-1"})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"model\.safetensors cannot be written"):
            save_parser(parser, tmp_path, {"version": "w-2"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
