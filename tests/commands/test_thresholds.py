"""ihp thresholds, on a network that knows nothing."""

from __future__ import annotations

import re
from pathlib import Path

from command_line import invoke
from tiny_weights import save_tiny


def test_a_table_of_what_other_values_change(people: Path, tmp_path: Path) -> None:
    weights = save_tiny(tmp_path, "lip", "tiny-1")
    words = ("thresholds", "--data", people, "--weights", weights, "--photos", "1")
    code, output = invoke(*words, "--only", "roi.margin")
    assert code == 0, output
    assert re.findall(r"\| `roi.margin` \| 0.06 \| (\S+) \|", output) == ["0", "0.03", "0.12"]
    code, output = invoke(*words, "--only", "nothing.*")
    assert code == 2
    assert "roi.margin" in output, "those there are"
