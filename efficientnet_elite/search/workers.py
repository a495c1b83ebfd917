"""What trains the candidates of a search: this process, worker processes, or a cluster.

Every process of a search reads the same images and weights. A worker checks that it does.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from efficientnet_elite import data as data_lib
from efficientnet_elite.config import EngineConfig, SearchConfig
from efficientnet_elite.data import ImageData
from efficientnet_elite.data.choices import AUGMENTATIONS, SOURCES
from efficientnet_elite.errors import UserError
from efficientnet_elite.machine import memory_budget, processors
from efficientnet_elite.networks.activations import ACTIVATIONS
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.names import pool_sizes
from efficientnet_elite.search import starts
from efficientnet_elite.search.begun import check_policy
from efficientnet_elite.search.executors.local import LocalExecutor
from efficientnet_elite.search.executors.pool import ProcessPool
from efficientnet_elite.search.executors.protocol import Executor
from efficientnet_elite.search.executors.ray_cluster import RayCluster
from efficientnet_elite.search.starts import Start
from efficientnet_elite.search.workdir import cache_path
from efficientnet_elite.training.backend import use_jax_devices
from efficientnet_elite.training.keras_import import environment, import_keras
from efficientnet_elite.training.trainer import Quantize


def load_data(config: SearchConfig, workdir: Path, *, progress: bool = True) -> ImageData:
    """The images of a search, stored no larger than its largest network needs.

    All processes with this work directory share the images that the first of them has decoded.
    """
    largest = max(size.stored_side for size in pool_sizes(config.pool, config.base_size))
    return data_lib.load(
        config.data, max_side=largest, cache_dir=cache_path(workdir), progress=progress
    )


def check_backend(engine: EngineConfig, config: SearchConfig) -> None:
    """UserError where this search cannot be trained by Keras' backend, or not exported."""
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"Keras runs on {keras.backend.backend()} in this process, and exports need "
            "TensorFlow: set KERAS_BACKEND=tensorflow before Keras is imported; with "
            "--backend=jax, workers have JAX all the same"
        )
    if engine.backend == "tensorflow":
        return
    if find_spec(engine.backend) is None:
        raise UserError(
            f'{engine.backend} is not installed: pip install "efficientnet-elite[{engine.backend}]"'
        )
    if config.select == "int8":
        raise UserError(
            "--select=int8 quantizes where candidates are trained, which needs TensorFlow: leave "
            "it or --backend out"
        )


def executor_for(
    config: SearchConfig,
    data: ImageData,
    workdir: Path,
    engine: EngineConfig,
    quantize: Quantize | None,
    trainings: int,
    start: Start | None,
) -> Executor:
    """Returns what trains; it has no more workers than there are networks.

    Args:
      config: settings of the search.
      data: its images.
      workdir: its work directory.
      engine: where candidates are to be trained.
      quantize: makes the int8 form of a network, where the search looks at it.
      trainings: number of networks.
      start: what they start from; None for random weights.
    """
    if engine.in_process:
        return _local(config, data, quantize, memory_budget(engine.memory_gb))
    own = 1 if engine.name == "local" else trainings
    workers = min(engine.workers or own, trainings)
    make = partial(
        _worker,
        config=config,
        workdir=workdir.absolute(),
        fingerprint=data.fingerprint,
        policy_sha256=data.pipeline.policy_sha256,
        quantize=quantize,
        registered=_registered(),
        start=start,
        memory_gb=engine.memory_gb,
        # How many workers a node of a cluster has is not known; it has no more than processors.
        share=workers if engine.name == "local" else None,
        backend=engine.backend,
    )
    if engine.name == "local":
        return ProcessPool(make, workers, workdir, begin=partial(import_keras, engine.backend))
    return RayCluster(
        make,
        engine.workers,
        workdir.absolute(),
        engine.ray_address,
        patience=engine.ray_patience,
        environment=environment(engine.backend),
    )


def _local(
    config: SearchConfig, data: ImageData, quantize: Quantize | None, memory: float
) -> LocalExecutor:
    return LocalExecutor(
        config.train,
        data,
        base_resolution=config.base_resolution,
        seed=config.seed,
        quantize=quantize,
        memory=memory,
    )


def _worker(
    slot: int,
    *,
    config: SearchConfig,
    workdir: Path,
    fingerprint: str,
    policy_sha256: str | None,
    quantize: Quantize | None,
    registered: frozenset[str],
    start: Start | None,
    memory_gb: float | None,
    share: int | None,
    backend: str,
) -> LocalExecutor:
    """The executor of a worker process; the workers are spread over the GPUs of the machine."""
    if missing := registered - _registered():
        raise UserError(
            f"workers do not know {', '.join(sorted(missing))}, which your program registers: "
            "leave out --workers and --engine, or, for --workers alone, register at the top level "
            "of the program's file, which each worker imports"
        )
    gpus = tf.config.list_physical_devices("GPU")
    if backend == "jax":
        leave_gpus()  # to JAX; TensorFlow makes the batches
        use_jax_devices(slot, share)
    elif gpus:
        gpu = gpus[slot % len(gpus)]
        tf.config.set_visible_devices(gpu, "GPU")
        tf.config.experimental.set_memory_growth(gpu, True)
    use_threads(config.threads)
    data = load_data(config, workdir, progress=False)
    if data.fingerprint != fingerprint:
        raise UserError(f"a worker sees other images in {data.name} than the search")
    check_policy(workdir, policy_sha256, data.pipeline.policy_sha256)
    starts.check_unchanged(starts.load_start(config.train), start, workdir)
    memory = memory_budget(memory_gb, share or processors() or 1)
    return _local(config, data, quantize, memory)


def _registered() -> frozenset[str]:
    """Names in the tables that training depends on, with those that a user's program has added."""
    tables: tuple[dict[str, Any], ...] = (SOURCES, AUGMENTATIONS, ACTIVATIONS, FAMILIES)
    return frozenset(name for table in tables for name in table)


def leave_gpus() -> None:
    """Has TensorFlow use no GPU in this process."""
    with suppress(RuntimeError):  # as below
        tf.config.set_visible_devices([], "GPU")


def use_threads(count: int) -> None:
    """Has TensorFlow train with so many threads in this process, if it has not computed yet."""
    # Sums depend on the number of threads in their last bits. Once TensorFlow has computed
    # something, as in a notebook, the number cannot be changed, and the search runs with that.
    with suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(count)
