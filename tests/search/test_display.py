"""The progress bar of a search."""

from __future__ import annotations

import pytest
import tqdm.std

from efficientnet_elite.search.display import Display


@pytest.mark.parametrize(
    ("before", "left"),
    [(0.0, "01:30<01:30"), (0.25, "01:30<03:00")],  # what an earlier process did took no time
)
def test_bursts_of_epochs_do_not_shorten_the_forecast(monkeypatch, capsys, before, left):
    now = 1000.0
    monkeypatch.setattr(tqdm.std, "time", lambda: now)
    with Display(True) as display:
        display.show([("a", 1, 6, ""), ("b", 1, 6, "")], before)
        for seconds, share in ((80, 0.3), (1, 0.35), (8, 0.45), (1, 0.5)):
            now += seconds
            display.show([("a", 2, 6, "")], share)
        display.clear()
        display.latest("top-1", 0.5)
        assert left in str(display._bar)
    assert "a epoch 2/6 |" in capsys.readouterr().err
