"""A search whose workers train with JAX: exported by TensorFlow, continued with either."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest

from efficientnet_elite import cli
from efficientnet_elite.config import EngineConfig, SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.workdir import read_sidecars
from efficientnet_elite.search import run, workers
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.training.precision import decided
from tests.support.command import SEARCH_FLAGS, elite

FLAGS = [flag for flag in SEARCH_FLAGS if not flag.startswith("--workers")]
with_jax = pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed (extra jax)")


@with_jax
@pytest.mark.slow
def test_a_search_trains_with_jax_and_exports(tmp_path):
    done = elite("search", *FLAGS, "--backend=jax", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    with Ledger(tmp_path) as ledger:
        meta, epochs = ledger.meta(), ledger.epochs()
    assert "jax" in meta["versions"]
    assert sum(map(len, epochs.values())) > 2
    sidecars = read_sidecars(tmp_path)
    assert sidecars and all(each["verification"]["int8_accuracy"] > 0 for each in sidecars)
    # The same command without it continues, and says what is different.
    (tmp_path / "champions.json").unlink()
    again = elite("search", *FLAGS, f"--workdir={tmp_path}")
    assert again.returncode == 0, again.stderr
    assert f"begun with jax {meta['versions']['jax']}, continued without it" in again.stderr


def test_what_jax_cannot_do_is_refused(tmp_path, capsys, monkeypatch):
    with pytest.raises(UserError, match="backend='torch': use tensorflow or jax"):
        EngineConfig(backend="torch")
    with pytest.raises(UserError, match="use --workers=1"):
        EngineConfig(workers=0, backend="jax")
    monkeypatch.setattr(workers, "find_spec", lambda name: object())
    with pytest.raises(UserError, match="--select=int8 quantizes"):
        run.run(
            SearchConfig(select="int8"),
            tmp_path,
            engine=EngineConfig(backend="jax"),
            quantize=lambda model, images: None,
        )
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    assert cli.main(["search", *FLAGS, "--backend=jax", f"--workdir={tmp_path / 'new'}"]) == 1
    error = capsys.readouterr().err
    assert 'jax is not installed: pip install "efficientnet-elite[jax]"' in error
    assert not (tmp_path / "new" / "ledger.sqlite").exists()


def test_jax_never_trains_in_the_process_of_the_search():
    assert EngineConfig().in_process
    assert not EngineConfig(backend="jax").in_process
    assert not replace(EngineConfig(backend="jax"), workers=2).in_process


@pytest.mark.parametrize(("backend", "precision"), [("tensorflow", "float16"), ("jax", "bfloat16")])
def test_gpus_compute_in_what_the_backend_trains_with(backend, precision, monkeypatch):
    from efficientnet_elite.training import precision as module

    monkeypatch.setattr(module.tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    details = {"compute_capability": (8, 0)}
    monkeypatch.setattr(module.tf.config.experimental, "get_device_details", lambda device: details)
    assert decided(SearchConfig().train, backend).precision == precision
