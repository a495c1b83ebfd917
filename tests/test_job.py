"""The whole job as a function."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from efficientnet_elite import job
from efficientnet_elite.config import SearchConfig
from efficientnet_elite.errors import UserError
from efficientnet_elite.search.ledger import Ledger


def config_of(workdir: Path) -> SearchConfig:
    with Ledger(workdir) as ledger:
        return SearchConfig.from_dict(ledger.meta()["config"])


def test_the_job_ends_with_champions_and_a_report(searched, tmp_path):
    """Continued from a search that stopped before export; done again, it repeats nothing."""
    workdir = Path(shutil.copytree(searched, tmp_path / "run"))
    before = job.load(workdir)
    assert all(champion.int8_path is None for champion in before.champions)
    tables: list[str] = []
    config = config_of(workdir)
    result = job.search(config, workdir, progress=False, on_latencies=tables.append)
    assert result.workdir == workdir and result.report == workdir / "report.html"
    assert result.report.is_file()
    assert result.skipped == ()
    assert [champion.group for champion in result.champions] == [0, 1]
    for champion in result.champions:
        for path in (champion.float_path, champion.int8_path, champion.sidecar_path):
            assert path is not None and path.is_file() and path.name in "".join(tables) + path.name
        assert champion.int8_path is not None
        assert champion.int8_path.stat().st_size == champion.int8_bytes
        assert champion.float_bytes > champion.int8_bytes
        assert 0 <= champion.int8_accuracy <= 1 and champion.score == "top-1"
        assert champion.float_latency_ms > 0 and champion.int8_latency_ms > 0
        assert champion.resolution in (7, 8)
    with pytest.raises(FrozenInstanceError):
        result.report = None  # type: ignore[misc]
    assert len(tables) == 1
    again = job.search(config, workdir, progress=False, on_latencies=tables.append)
    assert again == result
    assert len(tables) == 1
    loaded = job.load(workdir)
    assert loaded.champions == result.champions
    assert loaded.report() == result.report


def test_loading_a_search(searched):
    search = job.load(str(searched))
    assert search.config == config_of(searched)
    assert search.summary.finished
    assert sum(map(len, search.curves.values())) == search.summary.epochs_done == 7
    assert {name for name, epochs in search.curves.items() if len(epochs) == 3} >= {
        champion.name for champion in search.champions
    }
    assert set(search.decisions) == {0, 1}
    assert search.champions[0].name in str(search)


@pytest.mark.slow
def test_a_champion_that_cannot_be_exported(searched, tmp_path):
    """The others are exported, measured and reported all the same."""
    workdir = Path(shutil.copytree(searched, tmp_path / "run"))
    first, second = job.load(workdir).champions
    (workdir / "checkpoints" / f"{first.name}.npz").write_bytes(b"damaged")
    with pytest.raises(job.ExportError, match=first.name) as caught:
        job.search(config_of(workdir), workdir, progress=False)
    result = caught.value.result
    assert pickle.loads(pickle.dumps(caught.value)).result == result
    assert result.report is not None and result.report.is_file()
    assert {champion.name: champion.int8_path is not None for champion in result.champions} == {
        first.name: False,
        second.name: True,
    }


def test_a_loaded_search_outlives_a_change_of_the_directory(searched, tmp_path, monkeypatch):
    shutil.copytree(searched, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    search = job.load("run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert search.report() == tmp_path / "run" / "report.html"


def test_a_damaged_ledger_is_an_error_of_the_user(searched, tmp_path):
    workdir = Path(shutil.copytree(searched, tmp_path / "run"))
    path = workdir / "ledger.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(UserError, match=r"ledger.sqlite is damaged .* restore a copy"):
        job.load(workdir)


def test_a_damaged_list_of_champions_is_an_error_of_the_user(searched, tmp_path):
    shutil.copytree(searched, tmp_path / "run")
    (tmp_path / "run/champions.json").write_text('[{"name": "x"}]')
    with pytest.raises(UserError, match=r"champions\.json is damaged: group is missing"):
        job.load(tmp_path / "run")


def test_no_search(tmp_path):
    with pytest.raises(UserError, match="no search in"):
        job.load(tmp_path)
