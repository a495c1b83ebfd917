"""Settings of where a search trains."""

from __future__ import annotations

from dataclasses import dataclass

from efficientnet_elite.errors import UserError
from efficientnet_elite.fields import check, documented, setting

ENGINES = ("local", "ray")
BACKENDS = ("tensorflow", "jax")
RAY_PATIENCE = 300.0  # seconds; what adds nodes to a cluster takes some minutes for one


@documented
@dataclass(frozen=True)
class EngineConfig:
    """Where a search trains its candidates, and by what.

    Which machine or process it is does not change the results. Another backend rounds otherwise.
    """

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
    backend: str = setting(
        "tensorflow",
        "Backend of Keras that trains: tensorflow or jax. JAX always trains in processes of their "
        "own (--workers, by default 1 with GPUs); everything else is done by TensorFlow. It is "
        "several times slower on CPUs.",
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
        if self.backend not in BACKENDS:
            raise UserError(f"backend={self.backend!r}: use {' or '.join(BACKENDS)}")
        if self.backend != "tensorflow" and self.workers == 0:
            raise UserError(
                f"with workers=0 the process of the search trains, and backend={self.backend} "
                "needs a process of its own: use --workers=1"
            )
        if self.ray_address is not None and self.name != "ray":
            raise UserError("ray_address is for engine=ray")
        if self.ray_patience != RAY_PATIENCE and self.name != "ray":
            raise UserError("ray_patience is for engine=ray")

    @property
    def in_process(self) -> bool:
        """Whether candidates are trained in the search's own process."""
        return self.name == "local" and not self.workers and self.backend == "tensorflow"
