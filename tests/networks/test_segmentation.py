"""Segmentation: exact counts, Keras models, int8 files, masks, mIoU, training and search."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from efficientnet_elite import cli
from efficientnet_elite import data as data_lib
from efficientnet_elite.config import DataConfig, TrainConfig
from efficientnet_elite.data import IGNORED, geometry
from efficientnet_elite.data.picture import DecodedPicture
from efficientnet_elite.data.rendered.masks import MasksConfig, pixel_labels, render_masked
from efficientnet_elite.errors import UserError
from efficientnet_elite.export.champion import export_model
from efficientnet_elite.networks import ops
from efficientnet_elite.networks.blocks import LRASPP, ConvBlock, MBConv
from efficientnet_elite.networks.build import build
from efficientnet_elite.networks.families import FAMILIES
from efficientnet_elite.networks.families.segmentation import FAMILIES as SEGMENTATION
from efficientnet_elite.networks.names import spec_by_name
from efficientnet_elite.networks.spec import ArchSpec
from efficientnet_elite.search.candidates import pool_candidates
from efficientnet_elite.search.ledger import Ledger
from efficientnet_elite.training.loading import load_averaged
from efficientnet_elite.training.scores import class_iou, confusion_matrix, mean_iou
from efficientnet_elite.training.tasks import Segmentation, task_for
from efficientnet_elite.training.trainer import Trainer
from tests.support.command import elite
from tests.support.networks import int8_correlation, noise, normalise

# (name, width, (height, width) in pixels, classes) to all parameters and multiply-accumulates, as
# in the code of the authors without the weights that it never uses. ESPNet-C is the encoder alone.
COUNTS = {
    ("espnet-c-3", 1.0, (512, 1024), 20): (189781, 2159435776),
    ("espnet-c-5", 1.0, (512, 1024), 20): (255061, 2683723776),
    ("espnet-c-8", 1.0, (512, 1024), 20): (352981, 3470155776),
    ("espnet-3", 1.0, (512, 1024), 20): (205141, 3398721536),
    ("espnet-5", 1.0, (512, 1024), 20): (270421, 3923009536),
    ("espnet-8", 1.0, (512, 1024), 20): (368341, 4709441536),
    ("espnetv2-seg", 0.5, (384, 384), 21): (87563, 168071388),
    ("espnetv2-seg", 0.5, (512, 1024), 20): (87552, 596248176),
    ("espnetv2-seg", 1.0, (384, 384), 21): (246999, 305617116),
    ("espnetv2-seg", 1.0, (512, 1024), 20): (246988, 1085283952),
    ("espnetv2-seg", 1.5, (384, 384), 21): (487143, 482238172),
    ("espnetv2-seg", 1.5, (512, 1024), 20): (487132, 1713255536),
    ("espnetv2-seg", 2.0, (384, 384), 21): (813815, 759129308),
    ("espnetv2-seg", 2.0, (512, 1024), 20): (813804, 2697742960),
    ("lraspp-mobilenetv3-large", 1.0, (520, 520), 21): (3246194, 2086219688),
    ("lraspp-mobilenetv3-large", 1.0, (1024, 2048), 19): (3245854, 15774900096),
    ("lraspp-mobilenetv3-small", 1.0, (1024, 2048), 19): (1090014, 5064171520),
}


def network(name: str, width: float, depth: float, side: int, classes: int) -> ArchSpec:
    """A network of a family, or the encoder of an ESPNet (``espnet-c-...``)."""
    whole = SEGMENTATION[name.replace("-c-", "-")].build(name, width, depth, side, classes)
    return replace(whole, blocks=whole.blocks[:-1]) if "-c-" in name else whole


def small(name: str) -> ArchSpec:
    return network(name, 0.25, 0.4, 64, 3)


@pytest.mark.parametrize("setting", COUNTS, ids=str)
def test_published_settings(setting):
    name, width, (height, across), classes = setting
    spec = network(name, width, 1.0, 64, classes).resized((height, across, 3))
    assert (spec.params, spec.macs) == COUNTS[setting]
    reduction = 8 if name.startswith("espnet-c") else 1
    assert spec.graph.nodes[-1].shape == (height // reduction, across // reduction, classes)
    assert spec.classes == classes


def test_espnets_two_decoders():
    """At half the side, the authors' training code reads 19 channels and their test code 16."""
    spec = network("espnet-8", 1.0, 1.0, 64, 20).resized((512, 1024, 3))
    decoder = replace(spec.blocks[-1], half="level1_join")
    spec = replace(spec, blocks=(*spec.blocks[:-1], decoder))
    assert (spec.params, spec.macs) == (368881, 4780220416)


@pytest.mark.parametrize("name", [*SEGMENTATION, "espnet-c-3", "espnet-c-5", "espnet-c-8"])
def test_specs_survive_json_and_scale(name):
    full = network(name, 1.0, 1.0, 64, 3)
    assert ArchSpec.from_json(full.to_json()) == full
    for scaled in (network(name, 0.5, 1.0, 64, 3), network(name, 1.0, 0.5, 64, 3)):
        assert scaled.params < full.params
        assert scaled.macs < full.macs
        assert scaled.graph.nodes[-1].shape == full.graph.nodes[-1].shape


def test_the_dilated_backbone_keeps_a_sixteenth_of_the_image():
    """No stride after a sixteenth; all blocks of the last stage are dilated; same weights."""
    spec = network("lraspp-mobilenetv3-large", 1.0, 1.0, 224, 10)
    dilated = [
        node
        for node in spec.graph.nodes
        if isinstance(node.op, ops.DepthwiseConv) and node.op.dilation == 2
    ]
    assert [node.shape for node in dilated] == [(14, 14, 672), (14, 14, 960), (14, 14, 960)]
    classifier = FAMILIES["mobilenetv3-large"].build("x", 1.0, 1.0, 224, 10)
    backbones = [
        [node.params for node in network_spec.graph.nodes if node.name.startswith("block")]
        for network_spec in (spec, classifier)
    ]
    assert backbones[0] == backbones[1]


@pytest.mark.parametrize(
    "name",
    ["espnet-3", pytest.param("espnetv2-seg", marks=pytest.mark.slow), "lraspp-mobilenetv3-small"],
)
def test_keras_models_equal_their_specs(name):
    spec = small(name)
    model = build(spec)
    normalise(model, noise(spec))
    assert model.count_params() == spec.params
    for node in spec.graph.nodes:
        assert model.get_layer(node.name).output.shape[1:] == node.shape, node.name
    image = noise(spec)[:1]
    logits = np.asarray(model(image))
    assert logits.shape == (1, 64, 64, 3)
    assert np.isfinite(logits).all()
    # Resizing must not make the batch normalisation after it use the statistics of the batch.
    np.testing.assert_array_equal(logits, model(image, training=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["espnet-3", "espnetv2-seg", "lraspp-mobilenetv3-small"])
def test_int8_files_agree(name):
    spec = small(name)
    model = build(spec)
    normalise(model, noise(spec))
    assert int8_correlation(model, noise(spec)) > 0.9


# -- pools, data, training -------------------------------------------------------------------------


def test_pools_of_segmentation_networks():
    pool = pool_candidates("segmentation", base_resolution=64, classes=5)
    assert {c.family for c in pool} == SEGMENTATION.keys()
    for candidate in pool[::24]:
        side = candidate.spec.resolution
        assert side % 8 == 0
        assert candidate.spec.graph.nodes[-1].shape == (side, side, 5)
        assert spec_by_name(candidate.name, base_resolution=64, classes=5) == candidate.spec
    assert {c.family for c in pool_candidates("espnet")} == {"espnet-3", "espnet-5", "espnet-8"}
    assert not FAMILIES.keys() & SEGMENTATION.keys()


SCENES = MasksConfig(classes=3, images=40, size=48, seed=5)


def test_masks_have_room_for_their_classes():
    """Value 255 of a mask is ignored, so classes end at 254."""
    most = MasksConfig(classes=254, images=254, size=32)
    assert 254 in np.unique(render_masked(most, 253)[1])
    with pytest.raises(UserError, match="classes=255 is too many, use at most 254"):
        MasksConfig(classes=255, images=255)


def test_scenes_repeat_and_show_their_class():
    labels = pixel_labels(SCENES)
    assert labels[0] == "background" and len(set(labels)) == 4
    for index in range(12):
        encoded, mask = render_masked(SCENES, index)
        assert render_masked(SCENES, index)[0] == encoded
        assert Image.open(io.BytesIO(encoded)).size == mask.shape[::-1]
        values = set(np.unique(mask))
        assert {0, 1 + index % 3, IGNORED} <= values <= {0, 1, 2, 3, IGNORED}
        # Only outlines are ignored.
        assert (mask == IGNORED).mean() < 0.15
    assert render_masked(replace(SCENES, seed=6), 0)[0] != render_masked(SCENES, 0)[0]
    with pytest.raises(IndexError):
        render_masked(SCENES, 40)


def test_masks_lie_on_their_objects():
    """Colours differ more between object and background than between neighbouring pixels."""
    contrasts = []
    for index in range(12):
        encoded, mask = render_masked(SCENES, index)
        pixels = np.asarray(Image.open(io.BytesIO(encoded)), np.float32)
        across = np.abs(np.diff(pixels, axis=1)).mean(-1)
        rim = (mask[:, 1:] == IGNORED) | (mask[:, :-1] == IGNORED)
        plain = (mask[:, 1:] == 0) & (mask[:, :-1] == 0)
        contrasts.append(across[rim].mean() / across[plain].mean())
    assert np.mean(contrasts) > 2


@given(
    st.integers(1, 4).flatmap(
        lambda classes: st.lists(
            st.tuples(st.integers(0, classes - 1), st.sampled_from([*range(classes), IGNORED])),
            min_size=1,
        ).map(lambda pairs: (classes, pairs))
    )
)
def test_mean_iou_against_its_definition(drawn):
    classes, pairs = drawn
    choices, truth = np.array(pairs).T
    counted = [(c, t) for c, t in pairs if t != IGNORED]
    expected = []
    for k in range(classes):
        both = sum(c == t == k for c, t in counted)
        either = sum(k in (c, t) for c, t in counted)
        if either:
            expected.append(both / either)
    matrix = confusion_matrix(choices, truth, classes)
    assert matrix.sum() == len(counted)
    ious = class_iou(matrix)
    assert ious.shape == (classes,)
    assert ious[~np.isnan(ious)].tolist() == pytest.approx(expected)
    # If all pixels are ignored, the score is 0.
    assert mean_iou(matrix) == pytest.approx(np.mean(expected) if expected else 0.0)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.data())
@settings(deadline=None, max_examples=30)
def test_nearest_takes_the_pixel_under_each_centre(height, width, resolution, drawn):
    box = [
        drawn.draw(st.floats(0, height / 2, width=32)),
        drawn.draw(st.floats(0, width / 2, width=32)),
        drawn.draw(st.floats(0.5, height / 2, width=32)),
        drawn.draw(st.floats(0.5, width / 2, width=32)),
    ]
    mask = np.arange(height * width, dtype=np.int32).reshape(height, width)
    resampled = geometry.crop_and_resize_mask(mask, box, resolution)
    centres = (np.arange(resolution) + 0.5) / resolution
    rows, columns = (
        np.minimum((box[a] + centres * box[2 + a]).astype(int), last)
        for a, last in ((0, height - 1), (1, width - 1))
    )
    np.testing.assert_array_equal(resampled, mask[np.ix_(rows, columns)])


@pytest.fixture(scope="module")
def masked():
    tf.config.experimental.enable_op_determinism()
    config = DataConfig(dataset="rendered_masks:classes=2,images=120,size=48")
    return data_lib.load(config, progress=False)


def test_images_and_masks_move_together(masked):
    """An image that shows its mask as grey levels still does so after crop and flip."""
    assert masked.labels[0] == "background" and masked.num_classes == 3
    assert masked.masks and sum(masked.sizes.values()) == 120
    part = masked.parts["train"]

    class Drawn:
        size, keys, training_keys, sample = part.size, part.keys, part.training_keys, part.sample

        def picture(self, reference, original):
            mask = part.picture(reference, original).mask
            grey = np.where(mask == IGNORED, 200, mask * 100).astype(np.uint8)
            return DecodedPicture(np.repeat(grey[..., None], 3, axis=-1), mask)

    drawn = replace(masked, parts={**masked.parts, "train": Drawn()})
    stream, _ = data_lib.train_batches(drawn, resolution=32, batch_size=16, seed=0)
    sizes = {"resolution": 32, "batch_size": 16, "base_resolution": 32}
    for batches in (stream.take(2), data_lib.eval_batches(drawn, "train", **sizes).take(2)):
        for images, masks in batches:
            assert masks.shape == (16, 32, 32)
            pixels = (images.numpy()[..., 0] + 1) * 128
            inner = masks.numpy() != IGNORED
            # All but the outlines, which the resampling of the image blurs.
            close = np.abs(pixels - masks.numpy() * 100)[inner] < 30
            assert close.mean() > 0.93


def test_ignored_pixels_do_not_train():
    judge = Segmentation(3)
    logits = tf.constant(np.random.default_rng(0).normal(size=(1, 2, 2, 3)), tf.float32)
    labels = tf.constant([[[0, IGNORED], [2, 1]]])
    rows = tf.reshape(logits, (4, 3))
    counted = tf.gather(rows, [0, 2, 3])
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits([0, 2, 1], counted)
    assert float(judge.loss(logits, labels, 0.0)) == pytest.approx(float(tf.reduce_mean(expected)))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = judge.loss(logits, labels, 0.1)
    gradient = tape.gradient(loss, logits).numpy()
    assert (gradient[0, 0, 1] == 0).all() and (gradient[0, 1, 1] != 0).all()
    nothing = judge.loss(logits, tf.fill((1, 2, 2), IGNORED), 0.1)
    assert float(nothing) == 0


def test_networks_and_data_of_different_tasks(masked):
    with pytest.raises(UserError, match="elite9 does not predict a class for each pixel"):
        task_for(spec_by_name("elite9", classes=3, base_resolution=32), masked)
    with pytest.raises(UserError, match="espnet-3 is a segmentation network"):
        task_for(small("espnet-3"), replace(masked, masks=False))
    with pytest.raises(UserError, match="espnet-c-3 does not predict a class for each pixel"):
        task_for(small("espnet-c-3"), masked)


TINY = ArchSpec(
    "tiny",
    (32, 32, 3),
    (
        ConvBlock("stem", 8, 3, 2, "relu"),
        MBConv("low", 8, 16, 3, activation="relu"),
        MBConv("high", 16, 16, 3, 2, activation="relu"),
        LRASPP("head", 3, low="low", filters=16),
    ),
)
TRAIN = TrainConfig(
    epochs=4, batch_size=8, learning_rate=0.02, warmup_epochs=1.0, ema=0.9, batch_norm_momentum=0.9
)


@pytest.mark.slow
def test_training_resuming_and_export(masked, tmp_path):
    def trainer(name: str) -> Trainer:
        path = tmp_path / f"{name}.npz"
        return Trainer(TINY, TRAIN, masked, base_resolution=32, seed=2, checkpoint=path)

    straight = trainer("straight")
    straight.run(4, lambda epoch: None)
    losses = [epoch.train_loss for epoch in straight.history]
    assert losses[-1] < 0.8 * losses[0]
    halted = trainer("halted")
    halted.run(2, lambda epoch: None)
    halted = trainer("halted")
    halted.run(4, lambda epoch: None)
    scores = [[e.validation_accuracy for e in t.history] for t in (straight, halted)]
    assert scores[0] == scores[1]

    sizes = {"resolution": TINY.resolution, "base_resolution": 32}
    images, _ = data_lib.calibration_images(masked, **sizes, count=32, seed=0)
    batches = data_lib.eval_batches(masked, "test", **sizes, batch_size=16)
    model, *_ = load_averaged(straight.checkpoint)
    options = {
        "name": TINY.name,
        "out_dir": tmp_path,
        "labels": masked.labels,
        "calibration_images": images,
        "test_batches": [(x.numpy(), y.numpy()) for x, y in batches],
        "details": {},
    }
    with pytest.raises(UserError, match=r"points of mIoU .*\(remedies are for classifiers\)$"):
        export_model(model, **options, max_accuracy_drop=-101)
    exported = export_model(model, **options)
    assert exported.keras_accuracy == straight.accuracy("test")
    assert exported.agreement > 0.9
    assert abs(exported.int8_accuracy - exported.float_accuracy) < 0.1
    sidecar = json.loads(exported.sidecar_path.read_text())
    verified = sidecar["verification"]
    assert verified["score"] == "mIoU"
    ious = [iou for iou in verified["int8_class_iou"] if iou is not None]
    assert len(verified["int8_class_iou"]) == masked.num_classes
    assert np.mean(ious) == pytest.approx(verified["int8_accuracy"])
    side = TINY.resolution
    assert sidecar["output"]["shape"] == [1, side, side, 3]


def test_options_for_classifiers_only_are_refused(tmp_path, capsys):
    with Ledger(tmp_path, create=True) as ledger:
        ledger.start([], {"data": {"score": "mIoU"}})
    arguments = ["export", f"--workdir={tmp_path}", "--max_accuracy_drop=1"]
    assert cli.main([*arguments, "--remedies=qat"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].endswith("segmentation networks do not have: leave --remedies out")
    assert cli.main(arguments) == 1  # the default remedies are not refused
    assert "champions.json is missing" in capsys.readouterr().err
    build(TINY).save(tmp_path / "net.keras")
    dataset = "rendered_masks:classes=2,images=120,size=48"
    assert cli.main(["export", f"--model={tmp_path}/net.keras", f"--dataset={dataset}"]) == 1
    assert ".keras files are exported as classifiers" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_over_segmentation_networks(tmp_path):
    done = elite(
        "search", "--config=quick", "--dataset=rendered_masks:classes=2,images=160,size=48",
        "--pool=lraspp-mobilenetv3-small", "--base_resolution=32", "--max_candidates=2",
        "--groups=1", "--epochs=2", "--round_epochs=1", "--batch_size=16", f"--workdir={tmp_path}",
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (sidecar,) = tmp_path.rglob("export/*/*.json")
    assert json.loads(sidecar.read_text())["verification"]["score"] == "mIoU"
