"""The network's contract: shapes, masked open-class channels, what reaches it, and the weights on disk."""

from __future__ import annotations

import json
import resource
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ihp_backend.network.backbone import MobileNetV2
from ihp_backend.network.decoder import prototype_similarity
from ihp_backend.network.folding import folded
from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import SHIPPED, WeightsError, find_weights, load_parser, save_parser
from ihp_backend.network.weights_folder import schema_of

SMALL = ParserConfig(width=32, area=64 * 64)


@pytest.fixture(scope="module")
def parser() -> HumanParser:
    torch.manual_seed(0)
    return HumanParser(SMALL).eval()


def inputs(height: int = 64, width: int = 48, n: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    channels = SMALL.channels
    image = torch.rand(n, 3, height, width) * 2 - 1
    return image, torch.zeros(n, channels, height, width), torch.zeros(n, channels, height // 2, width // 2)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8))
def test_any_multiple_of_16_will_do(parser: HumanParser, rows: int, columns: int) -> None:
    with torch.inference_mode():
        output = parser(*inputs(16 * rows, 16 * columns))
    assert output.logits.shape == (1, 24, 8 * rows, 8 * columns)
    assert torch.isfinite(output.logits).all()


def test_strides_of_the_pyramid() -> None:
    with torch.inference_mode():
        features = MobileNetV2()(torch.zeros(1, 3, 64, 96))
    assert tuple(f.shape[1] for f in features) == MobileNetV2.channels
    assert [(64 // f.shape[2], 96 // f.shape[3]) for f in features] == [(s, s) for s in MobileNetV2.strides]


def test_open_class_channels_are_masked_until_they_are_used(parser: HumanParser) -> None:
    image, maps, previous = inputs()
    with torch.inference_mode():
        assert (parser(image, maps, previous).logits[:, 20:] == -30).all()
        maps[0, 21, 30, 20] = 1
        logits = parser(image, maps, previous).logits
        assert (logits[:, 21] > -30).any()
        assert (logits[:, [20, 22, 23]] == -30).all()
        maps[0, 21] = 0
        previous[0, 23, 3, 3] = 1
        assert (parser(image, maps, previous).logits[:, 23] > -30).any()


@pytest.mark.parametrize("early", [True, False])
def test_each_fusion_alone_carries_the_clicks(early: bool) -> None:
    config = replace(SMALL, early_fusion=False, late_fusion=False, previous=False, prototypes=False)
    image, maps, previous = inputs()
    clicked = maps.clone()
    clicked[0, 13, 28:34, 18:24] = 1
    torch.manual_seed(0)
    with torch.inference_mode():
        none = HumanParser(config).eval()
        assert torch.equal(none(image, maps, previous).logits, none(image, clicked, previous).logits)
        one = HumanParser(replace(config, early_fusion=early, late_fusion=not early)).eval()
        assert not torch.equal(one(image, maps, previous).logits, one(image, clicked, previous).logits)


def test_the_previous_round_is_seen_only_where_it_is_switched_on() -> None:
    image, maps, previous = inputs()
    shown = previous.clone()
    shown[0, 5] = 1
    with torch.inference_mode():
        for used in (True, False):
            parser = HumanParser(replace(SMALL, previous=used)).eval()
            same = torch.equal(parser(image, maps, previous).logits, parser(image, maps, shown).logits)
            assert same is not used


def test_photos_of_a_batch_do_not_mix(parser: HumanParser) -> None:
    image, maps, previous = inputs(n=3)
    maps[1, 4, 10:20, 10:20] = 1
    with torch.inference_mode():
        together = parser(image, maps, previous).logits
        alone = parser(image[1:2], maps[1:2], previous[1:2]).logits
    assert torch.allclose(together[1:2], alone, atol=1e-4)


def test_prototypes_by_hand() -> None:
    """Two kinds of features, left and right: a click on the left is like the left, unlike the right."""
    features = torch.zeros(1, 2, 4, 4)
    features[0, 0, :, :2] = 3
    features[0, 1, :, 2:] = 5
    maps = torch.zeros(1, 3, 16, 16)
    maps[0, 1, 5, 2] = 1
    maps[0, 2, 5, 2] = -1  # a negative click is no example
    similarity = prototype_similarity(features, maps)
    assert torch.allclose(similarity[0, 1, :, :2], torch.ones(4, 2))
    assert torch.allclose(similarity[0, 1, :, 2:], torch.zeros(4, 2))
    assert not similarity[0, [0, 2]].any()


def test_folding_batch_norms_changes_nothing(parser: HumanParser) -> None:
    for module in parser.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    image, maps, previous = inputs()
    maps[0, 3, 5:9, 5:9] = 1
    fold = folded(parser)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fold.modules())
    with torch.inference_mode():
        assert torch.allclose(parser(image, maps, previous).logits, fold(image, maps, previous).logits, atol=1e-3)


def test_image_weights_reach_the_trunk() -> None:
    source, target = MobileNetV2(), MobileNetV2(extra_inputs=24)
    target.load_image_weights(source.state_dict())
    assert torch.equal(target.stem.weight[:, :3], source.stem.weight)
    assert 0 < target.stem.weight[:, 3:].abs().mean() < 0.1
    assert torch.equal(target.state_dict()["blocks.3.project.weight"], source.state_dict()["blocks.3.project.weight"])


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
