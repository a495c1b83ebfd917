"""Settings of where a search trains."""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.errors import UserError
from efficientnet_elite.fields import check, documented, setting

ENGINES = ("local", "ray")
RAY_PATIENCE = 300.0  # seconds; what adds nodes to a cluster takes some minutes for one


@documented
@dataclass(frozen=True)
class EngineConfig:
    """Where a search trains its candidates. The results do not depend on it."""

    name: str = setting(
        "local",
        "Where candidates are trained. local: on this machine; ray: on a Ray cluster in which all "
        "nodes can reach --workdir.",
    )
    workers: int | None = setting(
        None,
        "Number of candidates that are trained at the same time, each in its own process. 0: one, "
        "in the process of the search. By default as many as cores, memory and candidates are "
        "worth, or 0 with GPUs and in Python; on a Ray cluster one for each CPU.",
        at_least=0,
    )
    ray_address: str | None = setting(
        None,
        "Address of the Ray cluster, such as auto or HOST:6379. By default the cluster on this "
        "machine is used, or a new one is started.",
    )
    ray_patience: float = setting(
        RAY_PATIENCE,
        "Seconds that a search on a Ray cluster waits for new nodes when none is left that could "
        "run its workers. Then it ends, and the same command continues it.",
        at_least=0,
    )
    memory_gb: float | None = setting(
        None,
        "Memory in GB that trainings may take on a machine, those of all workers together. Beyond "
        "it, candidates that wait for their next round are dropped from memory and continue from "
        "their checkpoints, which takes time but changes no result. By default 60 % of the memory "
        "of the machine or its container.",
        above=0,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.name not in ENGINES:
            raise UserError(f"engine={self.name!r}: use {' or '.join(ENGINES)}")
        if self.ray_address is not None and self.name != "ray":
            raise UserError("ray_address is for engine=ray")
        if self.ray_patience != RAY_PATIENCE and self.name != "ray":
            raise UserError("ray_patience is for engine=ray")

    @property
    def in_process(self) -> bool:
        """Whether candidates are trained in the search's own process."""
        return self.name == "local" and not self.workers
