"""The pace of a search is measured by the workers that train: all of them, three networks each."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from efficientnet_elite.config import SearchConfig, TrainConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.executors.protocol import Event, Failed, Finished, Lost, Ready, Timed
from efficientnet_elite.search.pace import measure_pace
from tests.support.invented import POOL

CONFIG = SearchConfig(train=TrainConfig(epochs=6, batch_size=10))
DATA: Any = SimpleNamespace(
    sizes={"train": 80, "validation": 60},
    parts={"train": SimpleNamespace(size=80)},
    is_repeated=False,
)
STEPS = 8 + 2  # of training, and what validation takes
SPECS = [candidate.spec for candidate in POOL[:5]]
CHOSEN = [sorted(spec.macs for spec in SPECS)[place] for place in (0, 2, 4)]


@dataclass
class Script:
    """An executor that says what a test wants: a list of events after each of what is submitted.

    A step takes a millisecond for each million of multiply-accumulates, times the slot's number
    from 1.
    """

    slots: int = 1
    fails: dict[int, Event] = field(default_factory=dict)  # slot to its first answer
    late: tuple[int, ...] = ()  # slots that never get ready

    def __post_init__(self) -> None:
        self.given: list[tuple[int, int]] = []
        self.closed = False
        ready = [s for s in range(self.slots) if s not in self.late]
        self._events: list[tuple[int, Event]] = [(slot, Ready()) for slot in ready]

    def submit(self, slot, item):
        assert item.timed and item.until_epoch == 0
        self.given.append((slot, item.spec.macs))
        if slot in self.fails:
            self._events += [(slot, self.fails.pop(slot))]
            return
        times = Timed((slot + 1) * item.spec.macs / 1e9, 2.0)
        self._events += [(slot, times), (slot, Finished())]

    def wait(self, on_event):
        on_event(*self._events.pop(0))

    def retire(self, slot, name):
        assert name in {spec.name for spec in SPECS}

    def close(self):
        self.closed = True


def measured(executor, tmp_path):
    try:
        return measure_pace(executor, SPECS, CONFIG, DATA, tmp_path)
    finally:
        assert getattr(executor, "closed", True)


def test_all_workers_time_three_networks_at_the_same_time(tmp_path):
    executor = Script(slots=3)
    pace = measured(executor, tmp_path)
    assert sorted(executor.given) == sorted((s, macs) for s in range(3) for macs in CHOSEN)
    assert {macs for _, macs in executor.given[:3]} == set(CHOSEN)
    assert pace.workers == 3 and pace.build == 2.0
    # The mean of workers that are once, twice and three times as slow.
    assert pace.cost_of(CHOSEN[1]).epoch == pytest.approx(STEPS * 2 * CHOSEN[1] / 1e9)


def test_workers_without_room_are_not_waited_for(tmp_path):
    executor = Script(slots=3, late=(1, 2))
    assert measured(executor, tmp_path).workers == 3
    assert [slot for slot, _ in executor.given] == [0, 0, 0]


def test_a_lost_node_is_no_fault_of_the_network(tmp_path):
    executor = Script(slots=2, fails={1: Lost("its node has died", blameless=True)})
    assert measured(executor, tmp_path).cost_of(CHOSEN[2]).epoch == pytest.approx(
        STEPS * CHOSEN[2] / 1e9
    )


@pytest.mark.parametrize("event", [Failed("out of memory"), Lost("killed, out of memory?")])
def test_a_network_that_cannot_be_trained_ends_the_search(tmp_path, event):
    with pytest.raises(UserError, match=r"pace of elite\S+ cannot be measured \(.*out of memory"):
        measured(Script(slots=2, fails={1: event}), tmp_path)
