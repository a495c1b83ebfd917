"""The main loop of a search: which candidate is trained where, and what follows from events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from efficientnet_elite.errors import UserError
from efficientnet_elite.search import deadline
from efficientnet_elite.search.deadline import Timekeeper
from efficientnet_elite.search.display import Display
from efficientnet_elite.search.executors.protocol import (
    Built,
    EpochDone,
    Event,
    Executor,
    Failed,
    Finished,
    Int8Done,
    Lost,
    Ready,
    Stepped,
    Warned,
    WorkItem,
)
from efficientnet_elite.search.ledger import Epoch, Ledger
from efficientnet_elite.search.noise import Noise, further_trainings, noise_of
from efficientnet_elite.search.outlook import group_left, repeat_epochs_left
from efficientnet_elite.search.record import SearchRecord
from efficientnet_elite.search.tournament import Pending, Standing, judge_of
from efficientnet_elite.search.work_queue import WorkQueue
from efficientnet_elite.search.workdir import checkpoint_path
from efficientnet_elite.training.outcome import EpochResult, Int8Result

_ALIKE = 3  # trainings that fail unexpectedly, with none that works, until the search ends
_TRIES = 3  # deaths of its worker without an epoch in between, after which a candidate has failed


@dataclass
class _Running:
    """What a slot is training: candidate, epochs in all, and state for the progress bar."""

    name: str
    until: int
    state: str = "building"


class SearchLoop:
    """The content of the ledger in memory, kept up to date event by event, and what is running.

    Args:
      ledger: ledger of the search, for writing.
      record: its content.
      executor: where work items are trained.
      workdir: where checkpoints are.
      display: the progress bar.
      say: gets a line for the user.
      on_recorded: gets every epoch that is new in the ledger.
    """

    def __init__(
        self,
        ledger: Ledger,
        record: SearchRecord,
        executor: Executor,
        workdir: Path,
        display: Display,
        say: Callable[[str], None],
        on_recorded: Callable[[Epoch], None],
    ) -> None:
        self._ledger, self._executor, self._workdir = ledger, executor, workdir
        self._display, self._say, self._on_recorded = display, say, on_recorded
        self._meta = record.meta
        self._score = record.meta.get("data", {}).get("score", "top-1")
        self._schedule, self._judge = record.schedule, judge_of(record.meta)
        self._specs = {candidate.name: candidate.spec for candidate in record.candidates}
        self._repeats = {repeat.name: repeat for repeat in record.repeats}
        self._from_scratch = record.from_scratch
        for name, repeat in self._repeats.items():
            self._specs[name] = replace(self._specs[repeat.candidate], name=name)
        self._macs = {name: float(spec.macs) for name, spec in self._specs.items()}
        self._group_of = {candidate.name: candidate.group for candidate in record.candidates}
        self._further = {repeat.name: repeat for repeat in record.further}  # of each candidate
        for name, repeat in self._further.items():
            self._specs[name] = replace(self._specs[repeat.candidate], name=name)
            self._macs[name] = self._macs[repeat.candidate]
            self._group_of[name] = self._group_of[repeat.candidate]
        self._members = {
            group: [member.name for member in members] for group, members in record.groups.items()
        }
        self._scores: dict[str, list[float]] = {name: [] for name in self._specs}
        self._losses: dict[str, list[float]] = {name: [] for name in self._specs}
        self._furthers = dict.fromkeys(self._specs, 0.0)  # of all epochs
        for name, epochs in record.epochs.items():
            self._scores[name] = [epoch.validation_accuracy for epoch in epochs]
            self._losses[name] = [epoch.train_loss for epoch in epochs]
            self._furthers[name] = sum(epoch.seconds for epoch in epochs)
        self._int8 = {name: dict(results) for name, results in record.int8.items()}
        self._failures, self._halts = dict(record.failures), dict(record.halts)
        self._timekeeper: Timekeeper | None = None
        self._elapsed = 0.0  # on its clock, when that was last recorded
        self._noise: Noise | None = None
        self._decisions = {group: record.decisions.get(group, []) for group in self._members}
        self._standings: dict[int, Standing] = {}
        # What is trained, and where.
        self._pending: dict[str, Pending] = {}  # candidate to what its group waits for
        self._queue = WorkQueue()
        self._active: set[str] = set()  # candidates that wait in it, or are being trained
        self._running: dict[int, _Running] = {}
        self._free: set[int] = set()
        self._homes: dict[str, int] = {}
        self._deaths: Counter[str] = Counter()
        self._building: list[float] = []  # seconds
        self._works = False  # whether this run has trained an epoch
        self._suspected: dict[str, str] = {}  # failed unexpectedly before, with their reasons
        # Progress, in multiply-accumulates an image.
        self._work_done = sum(self._macs[n] * len(self._scores[n]) for n in self._specs)
        self._group_left = dict.fromkeys(self._members, 0.0)
        self._work_left = 0.0

    def run(self, clock: Callable[[], float], began: float) -> dict[int, Standing]:
        """Trains until nothing is left to train; group number to where it stands then."""
        macs = {name: int(number) for name, number in self._macs.items()}
        self._timekeeper = deadline.timekeeper(self._meta, macs, clock, began)
        self._measure_noise()
        for group in self._members:
            self._advance(group, resuming=True)
        self._look_at_clock()
        try:
            while self._pending:
                self._check_suspicions()
                self._assign()
                self._executor.wait(self._on_event)
                self._look_at_clock()
        finally:
            self._record_elapsed()
        self._show()
        return self._standings

    def _measure_noise(self) -> None:
        """Works out the noise as far as it is known, and queues repeats that are not done yet."""
        repeats = list(self._repeats.values())
        self._noise = noise_of(repeats, self._scores, self._losses, self._schedule, self._failures)
        for name, epochs in self._repeat_epochs_left().items():
            repeat = self._repeats[name]
            until = len(self._scores[name]) + epochs
            self._pending[name] = Pending(repeat.candidate, until, seed=repeat.seed)
            if name not in self._active:
                self._enqueue(name)

    def _repeat_epochs_left(self) -> dict[str, int]:
        done = {name: len(self._scores[name]) for name in self._repeats}
        halted = bool(self._halts)  # halted groups do not wait
        return repeat_epochs_left(done, self._schedule, failed=self._failures, halted=halted)

    # -- decisions -------------------------------------------------------------------------------

    def _advance(self, group: int, *, resuming: bool = False) -> None:
        """Judges a group by its records, and queues the training that its next decision needs."""
        members = self._members[group]
        standing = self._judge(
            members,
            self._scores,
            self._losses,
            self._failures,
            self._int8,
            self._noise,
            self._halts.get(group),
            self._decisions[group],
        )
        self._standings[group] = standing
        if new_decisions := standing.decisions[len(self._decisions[group]) :]:
            self._ledger.record_decisions(group, new_decisions)
            self._decisions[group] = list(standing.decisions)
        pending = {need.training: need for need in standing.pending}
        if resuming and standing.finished:
            pending = self._lost_champion(standing)
        trainings, wanted = [*members, *self._further_of(members)], self._wanted(standing)
        for name in trainings:
            if name in pending:
                self._pending[name] = pending[name]
                if name not in self._active:
                    self._enqueue(name)
            else:
                self._pending.pop(name, None)
                if name not in wanted or (standing.finished and not pending):
                    self._retire(name)
        done = {name: len(self._scores[name]) for name in trainings}
        work = group_left(standing, done, self._macs, self._schedule)[1] or 0.0
        self._work_left += work - self._group_left[group]
        self._group_left[group] = work

    def _further_of(self, members: Iterable[str]) -> list[str]:
        return [repeat.name for repeat in further_trainings(members, self._schedule)]

    def _wanted(self, standing: Standing) -> list[str]:
        """Trainings of a group that may go on: of a champion the one that is exported."""
        if standing.training is not None:
            return [standing.training]
        return [*standing.survivors, *self._further_of(standing.survivors)]

    def _look_at_clock(self) -> None:
        """Ends groups whose time is up, and the training of their candidates and repeats."""
        if self._timekeeper is None:
            return
        while halts := self._timekeeper.halts_due(
            self._standings,
            self._halts,
            trained={name: (len(self._scores[name]), self._furthers[name]) for name in self._specs},
            running={running.name for running in self._running.values()},
            workers=max(1, len(self._free) + len(self._running)),
        ):
            for name in self._repeats:
                self._pending.pop(name, None)
            for group, halt in halts.items():
                self._say(f"group {group}: {deadline.halt_text(halt)}")
                self._ledger.record_halt(group, halt)
                self._halts[group] = halt
                self._advance(group)

    def _record_elapsed(self) -> None:
        """Records the time spent, for the next run in case this one is killed."""
        if self._timekeeper is not None:
            self._elapsed = self._timekeeper.deadline.spent()
            self._ledger.record_elapsed(self._elapsed)

    def _lost_champion(self, standing: Standing) -> dict[str, Pending]:
        """The training of a champion whose checkpoint has disappeared; its scores stand."""
        champion, name = standing.champion, standing.training
        if champion is None or name is None or name in self._failures:  # trained again, but failed
            return {}
        if checkpoint_path(self._workdir, name).is_file():
            return {}
        return {name: Pending(champion, len(self._scores[name]), final=standing.final)}

    # -- who trains what -------------------------------------------------------------------------

    def _enqueue(self, name: str) -> None:
        self._active.add(name)
        need, epochs = self._pending.get(name), self._schedule.epochs
        if need is not None and need.final:
            epochs = self._schedule.final_epochs
        ahead = self._macs[name] * (epochs - len(self._scores[name]))
        self._queue.push(name, ahead, self._homes.get(name))

    def _assign(self) -> None:
        # First every slot takes candidates whose graph it has; only then do others take them.
        for may_move in (lambda home: False, self._moving_pays):
            for slot in sorted(self._free) if self._queue else ():
                name = self._next(slot, may_move)
                if name is not None:
                    self._submit(slot, name)
        self._show()

    def _next(self, slot: int, may_move: Callable[[int], bool]) -> str | None:
        while (name := self._queue.pop(slot, may_move)) is not None:
            if name in self._pending:
                return name
            self._active.remove(name)  # eliminated while it waited
        return None

    def _submit(self, slot: int, name: str) -> None:
        if self._homes.get(name, slot) != slot:
            self._retire(name)
        self._free.remove(slot)
        need, done = self._pending[name], len(self._scores[name])
        until = need.until_epoch if self._timekeeper is None else min(need.until_epoch, done + 1)
        self._running[slot] = _Running(name, need.until_epoch)
        self._homes[name] = slot
        item = WorkItem(
            spec=self._specs[name],
            done=done,
            until_epoch=until,
            checkpoint=checkpoint_path(self._workdir, name),
            int8_at_end=need.int8 and until == need.until_epoch,
            seed=need.seed,
            fold=need.fold,
            from_scratch=need.candidate in self._from_scratch,
            epochs=self._schedule.final_epochs if need.final else None,
        )
        self._executor.submit(slot, item)

    def _moving_pays(self, home: int) -> bool:
        """Whether building a graph again takes less time than waiting for the slot that has it."""
        running = self._running[home]
        done = len(self._scores[running.name])
        if not done or not self._building:
            return True
        left = (running.until - done) * self._furthers[running.name] / done
        return left > sum(self._building) / len(self._building)

    def _retire(self, name: str) -> None:
        home = self._homes.pop(name, None)
        if home is not None:
            self._executor.retire(home, name)

    # -- events ----------------------------------------------------------------------------------

    def _on_event(self, slot: int, event: Event) -> None:
        if isinstance(event, Ready):
            self._free.add(slot)
            return
        if isinstance(event, Lost):
            self._on_lost(slot, event)
            return
        if isinstance(event, Warned):
            self._say(event.text)
            return
        running = self._running[slot]
        match event:
            case Built(seconds):
                self._building.append(seconds)
                self._record_elapsed()
                self._ledger.record_timing("graph building", running.name, seconds, add=True)
            case EpochDone(result):
                self._on_epoch(running, result)
                self._acquit_settings()
            case Int8Done(result):
                self._on_int8(running.name, result)
            case Stepped(step, steps):
                running.state = f"step {step}/{steps}"
                if self._timekeeper and self._timekeeper.deadline.spent() > self._elapsed + 60:
                    self._record_elapsed()
            case Finished():
                need = self._pending.get(running.name)
                if need is not None and len(self._scores[running.name]) < need.until_epoch:
                    del self._running[slot]
                    self._enqueue(running.name)
                else:
                    self._end(slot)
                self._free.add(slot)
            case Failed(reason, unexpected):
                if unexpected and not self._works:
                    self._suspected[self._running.pop(slot).name] = reason
                else:
                    self._fail(running.name, reason)
                    self._end(slot)
                self._free.add(slot)
        self._show()

    def _on_epoch(self, running: _Running, result: EpochResult) -> None:
        name, scores = running.name, self._scores[running.name]
        running.state = ""
        if result.epoch <= len(scores):
            return  # on record: the checkpoint was lost, or its whole history is reported
        if name not in self._pending:
            return  # the time of its group was up meanwhile, and the group was decided without it
        epoch = Epoch(candidate=name, **asdict(result))
        self._ledger.record_epoch(epoch)
        self._on_recorded(epoch)
        scores.append(result.validation_accuracy)
        self._losses[name].append(result.train_loss)
        self._furthers[name] += result.seconds
        self._record_elapsed()
        self._works = True
        self._deaths.pop(name, None)
        self._work_done += self._macs[name]
        if name in self._group_of:
            self._work_left -= self._macs[name]
            self._group_left[self._group_of[name]] -= self._macs[name]
        self._display.latest(self._score, result.validation_accuracy)

    def _on_int8(self, name: str, result: Int8Result) -> None:
        known = self._int8.setdefault(name, {})
        if result.epoch in known:
            return
        self._ledger.record_int8(name, result)
        self._record_elapsed()
        known[result.epoch] = result
        self._works = True
        self._deaths.pop(name, None)
        if result.fault:
            self._say(f"{name} has no int8 form after epoch {result.epoch}: {result.fault}")

    def _end(self, slot: int) -> None:
        self._leave(self._running.pop(slot).name)

    def _leave(self, name: str) -> None:
        """Has a group judged whose candidate has nothing to train now."""
        self._active.remove(name)
        self._pending.pop(name, None)
        if name in self._repeats:
            self._retire(name)
        if self._noise is not None and self._noise.waiting:
            self._measure_noise()
            if not self._noise.waiting:  # all groups have waited for this
                for group in self._members:
                    self._advance(group)
                return
        if name in self._group_of:
            self._advance(self._group_of[name])

    def _fail(self, name: str, reason: str) -> None:
        self._spare(name)
        self._failures.setdefault(name, reason)
        self._ledger.record_failure(name, len(self._scores[name]) + 1, reason)
        self._retire(name)
        is_repeat = name in self._repeats or name in self._further
        outcome = "does not count" if is_repeat else "is eliminated"
        self._say(f"{name} has failed and {outcome}: {reason}")

    def _acquit_settings(self) -> None:
        """Records unexpected failures as the candidates' own, once another training works."""
        while self._works and self._suspected:
            name = next(iter(self._suspected))
            self._fail(name, self._suspected.pop(name))
            self._leave(name)

    def _check_suspicions(self) -> None:
        """UserError where all trainings so far have failed unexpectedly, or there is no other."""
        count = len(self._suspected)
        if count and count >= min(_ALIKE, len(self._pending)):
            name, reason = next(iter(self._suspected.items()))
            trainings = (
                "the only training has" if count == 1 else f"the first {count} trainings have"
            )
            raise UserError(
                f"{trainings} failed, and none has worked: the cause seems to be common to all, so "
                f"that no candidate is recorded as failed. {name}: {reason}"
            )

    def _spare(self, name: str) -> None:
        """Keeps the training so far of a champion whose time is up, if its last epoch fails."""
        further = self._further.get(name)
        group = None if further is not None and further.seed else self._group_of.get(name)
        done = len(self._scores[name])
        halt = None if group is None else self._halts.get(group)
        if group is None or halt is None or halt.end is None or not 0 < done < halt.end:
            return
        self._halts[group] = replace(halt, end=done)
        self._ledger.record_halt(group, self._halts[group])

    def _on_lost(self, slot: int, lost: Lost) -> None:
        """Queues the candidate of a lost slot again; it continues from its checkpoint."""
        self._free.discard(slot)
        self._queue.evict(slot)
        self._homes = {name: home for name, home in self._homes.items() if home != slot}
        if slot not in self._running:
            self._say(f"a worker died ({lost.reason}) while it was idle; it is replaced")
            return
        name = self._running[slot].name
        self._deaths[name] += not lost.blameless
        if self._deaths[name] >= _TRIES:
            self._fail(name, f"its worker died {_TRIES} times within an epoch: {lost.reason}")
            self._end(slot)
        else:
            self._say(f"a worker died ({lost.reason}); {name} continues from its latest epoch")
            del self._running[slot]
            self._enqueue(name)

    # -- what the user sees ----------------------------------------------------------------------

    def _show(self) -> None:
        repeats = sum(self._macs[name] * n for name, n in self._repeat_epochs_left().items())
        whole = self._work_done + self._work_left + repeats
        running = [
            (item.name, min(len(self._scores[item.name]) + 1, item.until), item.until, item.state)
            for _, item in sorted(self._running.items())
        ]
        self._display.show(running, self._work_done / whole if self._pending else None)
