"""Settings: described once, printed as files, read back, and reachable from the command line."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from efficientnet_elite import cli
from efficientnet_elite.config import (
    DataConfig,
    EngineConfig,
    Limits,
    SearchConfig,
    TrainConfig,
    all_fields,
    unknown_fields,
)
from efficientnet_elite.errors import UserError
from efficientnet_elite.job import automatic, config_file, request, settings
from efficientnet_elite.job.recipes import PRESETS

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def read(folder: Path, text: str, name: str = "settings.toml") -> SearchConfig:
    path = folder / name
    path.write_text(text)
    return config_file.read(path)


def test_what_is_chosen_by_images_is_no_setting_of_a_file(tmp_path, capsys):
    assert cli.main(["config", "--config=auto", "--groups=2"]) == 0
    path = tmp_path / "mine.toml"
    path.write_text(capsys.readouterr().out)
    asked = request.search_request({}, path)
    assert asked.automatic and asked.config.groups == 2
    assert asked.given & automatic.CHOSEN == {"groups"}


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_what_is_printed_reads_back(preset, tmp_path, capsys):
    assert cli.main(["config", f"--config={preset}"]) == 0
    text = capsys.readouterr().out
    assert read(tmp_path, text) == PRESETS[preset]()
    for dotted, _, field in all_fields():
        lines = text.splitlines()
        (line,) = [
            number
            for number, line in enumerate(lines)
            if line.startswith((f"{field.name} =", f"# {field.name} ="))
            and (dotted.count(".") or number < lines.index("[limits]"))
            and (not dotted.count(".") or number > lines.index(f"[{dotted.split('.')[0]}]"))
        ]
        assert lines[line - 1].startswith("# "), dotted


def test_a_changed_config_reads_back(tmp_path):
    config = SearchConfig(
        group_by=("macs", "size_bytes"),
        limits=Limits(size_kb=900, latency_ms=1.5),
        data=DataConfig(dataset='folder:/a "b"\\ü', flip=False),
        train=replace(TrainConfig(), weight_decay=1e-7, epochs=20),
    )
    assert read(tmp_path, config_file.as_toml(config)) == config


@pytest.mark.parametrize(
    "text", ["a\x7fb", "a\0b", "\\\t\n\"'#", "\u2028\x85\x1b", "\U0001f600", ""]
)
def test_any_text_reads_back(text, tmp_path):
    config = SearchConfig(pool=text)
    assert read(tmp_path, config_file.as_toml(config)) == config


@pytest.mark.parametrize("name", ["a.toml", "a.yaml"])
def test_files_of_windows_editors_are_read(name, tmp_path):
    """With a byte order mark and carriage returns."""
    text = {"a.toml": 'base = "quick"\r\ngroups = 5', "a.yaml": "base: quick\r\ngroups: 5\r\n"}
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text[name].encode())
    assert config_file.read(tmp_path / name) == replace(PRESETS["quick"](), groups=5)


def test_a_partial_file_rests_on_its_base(tmp_path):
    quick = PRESETS["quick"]()
    expected = replace(
        quick, groups=5, train=replace(quick.train, epochs=20, weight_decay=1e-4, ema=1.0)
    )
    toml = 'base = "quick"\ngroups = 5\n[train]\nepochs = 20\nweight_decay = 1e-4\nema = 1\n'
    yaml = "base: quick\ngroups: 5\ntrain: {epochs: 20, weight_decay: 1e-4, ema: 1}\n"
    assert read(tmp_path, toml) == expected
    assert read(tmp_path, yaml, "settings.yaml") == expected
    assert read(tmp_path, "base: quick\ngroups: null\n", "s.yml") == replace(quick, groups=None)
    assert read(tmp_path, "") == read(tmp_path, "", "empty.yaml") == SearchConfig()


def test_a_shorter_training_than_the_presets_needs_no_other_flag(capsys):
    config = settings.search_config({"epochs": 2}, PRESETS["quick"]())
    assert (config.train.epochs, config.round_epochs, config.first_elimination) == (2, 2, None)
    assert cli.main(["config", "--config=quick", "--epochs=2", "--first_elimination=3"]) == 1
    assert capsys.readouterr().err == (
        "elite config: first_elimination=3: must be from 1 to epochs=2\n"
    )


def test_flags_override_the_file(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text('base = "quick"\n[train]\nepochs = 20\nrho = 0.8\n[limits]\nsize_kb = 5\n')
    command = ["config", f"--config={path}", "--epochs=30", "--noflip", "--group_by=macs"]
    assert cli.main(command) == 0
    config = read(tmp_path, capsys.readouterr().out)
    assert (config.train.epochs, config.train.rho, config.train.batch_size) == (30, 0.8, 32)
    assert (config.data.flip, config.limits.size_kb, config.group_by) == (False, 5, ("macs",))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "epoch = 3", "unknown setting 'epoch': did you mean train.epochs?"),
        ("a.toml", "max_size_kb = 3", "unknown setting 'max_size_kb': did you mean limits.size_kb"),
        ("a.toml", "[train]\npool = 'hf'", "unknown setting 'train.pool': did you mean pool?"),
        ("a.toml", "[train]\nepochs = 'x'", "train.epochs='x': must be a whole number"),
        ("a.toml", "[train]\nepochs = true", "train.epochs=True: must be a whole number"),
        ("a.toml", "[train]\nepochs = 0", "epochs=0: must be a number above 0"),
        ("a.toml", "[train]\nema = nan", "ema=nan: must be a finite number"),
        ("a.toml", "train = 3", "train=3: must hold settings by name"),
        ("a.toml", "rule = 'first'", "rule='first': use average or"),
        ("a.toml", "base = 'quik'", "base='quik': use quick or auto or paper"),
        ("a.toml", "base = ['quick']", "base=['quick']: use quick or auto or paper"),
        ("a.toml", f"[train]\nema = {9 * 10**400}", "train.ema is too large a number"),
        ("a.toml", f"seed = {2**63}", "seed is too large a number"),
        ("a.toml", f"groups = '{'x' * 999}'", "xxx...: must be a whole number"),
        ("a.toml", f"groups = {'[' * 5000}", "a.toml is nested too deeply"),
        ("a.toml", "[train]\nrho = 7.0", "rho=7.0: must be from 0 to 1"),
        ("a.toml", "[train]\nmomentum = -1.0", "momentum=-1.0: must be from 0 to 1"),
        ("a.toml", "[train]\nepsilon = 0", "epsilon=0.0: must be a number above 0"),
        ("a.toml", "[train]\nema = 2", "ema=2.0: must be from 0 to 1"),
        ("a.toml", "[train]\nlabel_smoothing = 2", "label_smoothing=2.0: must be from 0 to 1"),
        ("a.toml", "[train]\nweight_decay = -1", "weight_decay=-1.0: must be at least 0"),
        ("a.toml", "[train]\nbatch_norm_momentum = 2", "momentum=2.0: must be from 0 to 1"),
        ("a.yaml", "train: {ema: 1, ema: 0}", "a.yaml is not valid YAML: 'ema' is given twice"),
        ("a.yaml", "pool: !!python/object/apply:os.getcwd []", "a.yaml is not valid YAML: "),
        ("a.toml", "groups = ", "a.toml is not valid TOML: "),
        ("a.yaml", "groups: [", "a.yaml is not valid YAML: "),
        ("a.yaml", "- groups", "a.yaml must hold settings by name"),
        ("a.yaml", "pool: null", "pool=None: must be a text"),
        ("a.toml", None, "a.toml cannot be read: No such file or directory"),
    ],
)
def test_wrong_files_cost_one_line(tmp_path, capsys, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    assert cli.main(["config", f"--config={path}"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"elite config: {path}") and err.count("\n") == 1
    assert message in err


def test_every_field_is_described_and_reachable():
    """In a file all of them; fields without a flag are the recipe's details."""
    for dotted, _, _ in all_fields():
        assert settings.help_of(dotted).endswith((".", ")")), dotted
    with_flag = {dotted for option in settings.options().values() for dotted in option.fields}
    assert {dotted for dotted, _, _ in all_fields()} - with_flag - {"classifier_reads"} == {
        f"train.{name}"
        for name in ("decay_rate", "decay_epochs", "rho", "momentum", "epsilon",
                     "batch_norm_momentum", "drop_rates", "gradient_clip", "distill_weight",
                     "freeze_statistics", "teacher_reads")
    }  # fmt: skip
    for cls in (SearchConfig, DataConfig, TrainConfig, EngineConfig):
        for field in fields(cls):
            if "help" in field.metadata:
                assert f"{field.name}: {field.metadata['help']}" in (cls.__doc__ or "")


def test_the_page_of_the_documentation_is_current():
    """`elite config --format=markdown > docs/configuration.md` writes it."""
    assert PAGE.read_text() == config_file.as_markdown()


def test_settings_of_other_versions_are_read():
    config = PRESETS["quick"]()
    recorded = asdict(config)
    recorded["train"] |= {"dropblock": 0.3}
    recorded["colour"] = "red"
    for part, name in (("data", "center_crop"), ("train", "rho")):
        del recorded[part][name]
    del recorded["limits"], recorded["metric_table"]
    assert SearchConfig.from_dict(recorded) == config
    assert unknown_fields(recorded) == {"colour": "red", "train.dropblock": 0.3}
    assert unknown_fields(asdict(config)) == {}


def test_the_former_name_of_validation_is_still_read(tmp_path, capsys):
    """In ledgers, files of settings, flags and keyword arguments."""
    recorded = asdict(SearchConfig())
    recorded["data"]["validation_fraction"] = 0.1
    del recorded["data"]["validation"]
    assert SearchConfig.from_dict(recorded).data.validation == 0.1
    assert unknown_fields(recorded) == {}
    file = tmp_path / "old.toml"
    file.write_text("[data]\nvalidation_fraction = 0.1\n", encoding="utf-8")
    assert config_file.read(file).data.validation == 0.1
    assert config_file.names_in(file) == {"data.validation"}
    assert settings.data_config({"validation_fraction": 0.1}).validation == 0.1
    for flag in ("--validation_fraction=0.1", "--validation=0.1", "--validation=crossfit"):
        assert cli.main(["config", "--config=quick", flag]) == 0
        file.write_text(capsys.readouterr().out, encoding="utf-8")
        given = flag.partition("=")[2]
        assert str(config_file.read(file).data.validation) == given
    assert cli.main(["config", "--validation_fraction=0.1", "--validation=0.2"]) == 1
    assert "validation_fraction is given twice" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["config", "train"])
@pytest.mark.parametrize("value", ["often", "[]", ""])
def test_what_is_no_share_of_the_images_is_refused(command, value, capsys):
    assert cli.main([command, f"--validation={value}"]) == 1
    assert f"validation={value!r}: use crossfit, or a share such as 0.2" in capsys.readouterr().err


def test_a_single_network_has_no_folds():
    with pytest.raises(UserError, match="validation=crossfit compares the finalists of a search"):
        settings.training_config({"validation": "crossfit"}, SearchConfig())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainConfig(drop_rates=2), "drop_rates=2: must be from 0 to 1"),
        (lambda: TrainConfig(warmup_epochs=-1), "warmup_epochs=-1: must be at least 0"),
        (lambda: SearchConfig(groups=0), "groups=0: must be at least 1"),
        (lambda: SearchConfig(group_method="even"), "group_method='even': use width or count"),
        (lambda: EngineConfig(workers=-1), "workers=-1: must be at least 0"),
    ],
)
def test_impossible_settings(make, message):
    with pytest.raises(UserError, match=message):
        make()
