"""What `elite doctor` finds."""

from __future__ import annotations

import json
from importlib.metadata import version

from efficientnet_elite import cli
from efficientnet_elite.networks.pretrained.sources import SOURCES, is_present


def test_doctor(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packages"]["numpy"] == version("numpy")
    assert found["packages"]["efficientnet-elite"] == version("efficientnet-elite")
    assert found["extras"]["dev"] == []
    assert found["memory_bytes"] > 1e8 and found["free_disk_bytes"] > 0
    assert found["gpus"] is not None
    assert found["runtimes"]["LiteRT XNNPACK"] is None
    for name, why in found["sources"].items():
        assert (why is None) == is_present(SOURCES[name])
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"numpy                        {version('numpy')}" in text
    for name in (*found["runtimes"], *found["sources"], *found["extras"]):
        assert f"\n  {name} " in text
