"""Forged and damaged weights: an error of ours, and nothing is executed."""

from __future__ import annotations

import io
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import WeightsError, load_parser, save_parser
from ihp_backend.network.weights_folder import read_info, version_of, weights_by_schema


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_parser(HumanParser(ParserConfig(width=8, area=64 * 64)), folder, {"version": "w"})
    return folder


class Exploit:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploited"),)


def forged(good: Path, fault: str) -> bytes:
    """The bytes of damaged weights."""
    data = good.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__" and header[name]["dtype"] == "F32")
    if fault == "pickle":
        return pickle.dumps(Exploit())
    if fault == "torch file":
        buffer = io.BytesIO()
        torch.save({"model": torch.zeros(3)}, buffer)
        return buffer.getvalue()
    if fault == "empty":
        return b""
    if fault == "cut":
        return data[: len(data) // 2]
    if fault == "header longer than the file":
        return struct.pack("<Q", 2**40) + data[8:]
    if fault == "header that is no JSON":
        return struct.pack("<Q", 8) + b"\xff" * 8
    if fault == "trailing bytes":
        return data + b"x"
    if fault == "offsets beyond the end":
        header[name]["data_offsets"] = [0, 2**50]
    elif fault == "offsets that overlap":
        header[name]["data_offsets"] = [0, header[name]["data_offsets"][1] - header[name]["data_offsets"][0]]
    elif fault == "negative shape":
        header[name]["shape"] = [-1]
    elif fault == "huge shape":
        header[name]["shape"] = [2**62, 2**62]
    else:
        header[name]["dtype"] = "PICKLE"
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


@pytest.mark.parametrize(
    "fault",
    [
        "pickle",
        "torch file",
        "empty",
        "cut",
        "header longer than the file",
        "header that is no JSON",
        "trailing bytes",
        "offsets beyond the end",
        "offsets that overlap",
        "negative shape",
        "huge shape",
        "unknown dtype",
    ],
)
def test_forged_weights_are_an_error_of_ours(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(forged(weights / "model.safetensors", fault))
    (tmp_path / "info.json").write_bytes((weights / "info.json").read_bytes())
    with pytest.raises(WeightsError, match="cannot be read"):
        load_parser(tmp_path)
    assert not Path("exploited").exists()


@pytest.mark.parametrize("info", [b"[" * 100_000, b"[]", b"\xff", b"", b'{"architecture":' + b"[" * 100_000])
def test_an_info_that_others_damaged_is_an_error_of_ours(weights: Path, tmp_path: Path, info: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes((weights / "model.safetensors").read_bytes())
    (tmp_path / "info.json").write_bytes(info)
    for read in (load_parser, read_info, version_of, weights_by_schema):
        with pytest.raises(WeightsError, match="cannot be read"):
            read(tmp_path)


@pytest.mark.parametrize("fault", ["integers", "another shape", "a tensor more", "a tensor less", "not a number"])
def test_tensors_that_do_not_fit_are_an_error_of_ours(weights: Path, tmp_path: Path, fault: str) -> None:
    tensors = load_file(weights / "model.safetensors")
    name = next(name for name, value in tensors.items() if value.dim() == 4)
    if fault == "integers":
        tensors[name] = tensors[name].to(torch.int64)
    elif fault == "another shape":
        tensors[name] = tensors[name][:, :, :1].contiguous()
    elif fault == "a tensor more":
        tensors["more"] = torch.zeros(1)
    elif fault == "a tensor less":
        del tensors[name]
    else:
        tensors[name][:] = np.nan
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "info.json").write_bytes((weights / "info.json").read_bytes())
    with pytest.raises(WeightsError):
        load_parser(tmp_path)
