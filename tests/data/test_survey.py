"""What a survey finds among real files, each kind of which was put there."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from efficientnet_elite.config import DataConfig
from efficientnet_elite.data import groups, listing, preview, survey
from efficientnet_elite.data.decode import decode
from tests.support.photos import encoded, photo
from tests.support.shared_data import folder


def detailed(seed, side=90):
    """A picture with edges, so that a blurred one differs from it."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
    return small.resize((side, side), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Sound pictures of three classes, and one of every fault."""
    root = tmp_path_factory.mktemp("messy")
    for label, name in enumerate(("cat", "dog", "emu")):
        (root / name).mkdir()
        for i in range(12 if name != "emu" else 3):
            detailed(100 * label + i).save(root / name / f"{i}.png")
    (root / "cat" / "cut.jpg").write_bytes(encoded(photo(300, 300))[:900])
    detailed(1000).filter(ImageFilter.GaussianBlur(6)).save(root / "cat" / "shaken.png")
    Image.new("RGB", (50, 40), (4, 4, 4)).save(root / "dog" / "lens cap.png")
    Image.new("RGB", (50, 40), (200, 190, 180)).save(root / "dog" / "wall.png")
    detailed(1001).convert("L").save(root / "emu" / "grey.png")
    Image.fromarray(np.asarray(detailed(1002).convert("L"), np.uint16) * 16).save(
        root / "emu" / "x-ray.png"
    )
    (root / "dog" / "is a cat.png").write_bytes((root / "cat" / "0.png").read_bytes())
    (root / "cat" / "again.png").write_bytes((root / "cat" / "1.png").read_bytes())
    detailed(2).crop((1, 0, 90, 89)).save(root / "cat" / "frame.jpg", quality=70)
    return root


def look(root, **settings):
    config = DataConfig(dataset=f"folder:{root}", **settings)
    return survey.survey(config.dataset, listing.of_data_set(config), progress=False)


def test_every_fault_is_found_and_nothing_else(root):
    found = look(root)
    names = [example.name for example in found.listing.examples]
    assert {(finding.kind, names[finding.image]) for finding in found.findings} == {
        ("unreadable", "cat/cut.jpg"),
        ("blurred", "cat/shaken.png"),
        ("dark", "dog/lens cap.png"),
        ("uniform", "dog/wall.png"),
        ("greyscale", "emu/grey.png"),
        ("greyscale", "emu/x-ray.png"),
        ("12 bits", "emu/x-ray.png"),
    }
    assert "truncated" in found.findings[0].detail
    assert [({names[i] for i in g.images}, g.copies, len(g.classes)) for g in found.groups] == [
        ({"cat/0.png", "dog/is a cat.png"}, True, 2),
        ({"cat/1.png", "cat/again.png"}, True, 1),
        ({"cat/2.png", "cat/frame.jpg"}, False, 1),
    ]
    assert found.counts()["train"].tolist() == [15, 15, 5]
    assert min(found.shorter_sides()) == 40


def test_greyscale_is_no_finding_where_most_are_grey(tmp_path):
    for i in range(6):
        detailed(i).convert("L").save(tmp_path / f"{'ab'[i % 2]}{i}.png")
    assert not look(tmp_path, label_regex="^([ab])").findings


def bits(one, other):
    """In how many bits two hashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_near_duplicates_are_those_of_all_pairs(tmp_path):
    """Banding leaves out no pair: random hashes, and some that differ in a few bits."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, (150, 2), np.uint64)
    flips = np.zeros_like(words)
    for _ in range(9):
        flips ^= np.uint64(1) << rng.integers(0, 64, words.shape, np.uint64)
    words = np.concatenate([words, words[:50] ^ flips[:50], words[:3]])
    hashes = ["".join(f"{int(word):016x}" for word in row) for row in words]
    hashes[7] = ""
    pairs = []
    for i, one in enumerate(hashes):
        for j, other in enumerate(hashes[:i]):
            if one and other:
                low, every = bits(one[:16], other[:16]), bits(one, other)
                if low <= groups.MOST_FREQUENCIES and every <= groups.MOST_BITS:
                    pairs.append((i, j))
    assert 5 < len(pairs) < 53
    wanted = np.arange(len(hashes))
    for _ in range(9):  # until nothing changes: the smallest number among the connected
        for i, j in pairs:
            wanted[i] = wanted[j] = min(wanted[i], wanted[j])
    assert groups.near_duplicates(hashes).tolist() == wanted.tolist()


def test_photographs_of_two_kinds_of_flowers_are_not_taken_for_duplicates():
    """Of the 125,000 pairs none is; a photograph and its smaller copy always are."""
    files = sorted(folder("flowers5x100").glob("train/*/*.jpg"))
    images = [decode(path.read_bytes(), groups.HASHED_SIDE) for path in files]
    hashes = [groups.perceptual_hash(image) for image in images]
    assert groups.near_duplicates(hashes).tolist() == list(range(len(hashes)))
    small = []
    for image in images[::5]:
        copy = Image.fromarray(image).resize((96, 96), Image.Resampling.BILINEAR)
        small.append(groups.perceptual_hash(decode(encoded(copy, quality=60))))
    found = groups.near_duplicates([*hashes[::5], *small])
    assert np.mean(found[len(small) :] == np.arange(len(small))) > 0.95


def test_the_sheet_is_what_the_training_pipeline_gives(tmp_path):
    """Left halves are darker where nothing is mirrored; the levels are those of the files."""
    for label, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for i in range(5):
            pixels = np.full((40, 60, 3), 60 + 100 * label, np.uint8)
            pixels[:, 30:] += 40
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    config = DataConfig(dataset=f"folder:{tmp_path}", min_area=1.0)
    images = listing.of_data_set(config)
    pixels, labels = preview.training_images(
        config, images, range(10), resolution=24, count=8, seed=0
    )
    assert pixels.shape == (8, 24, 24, 3) and labels.tolist() == [0] * 4 + [1] * 4
    for picture, label in zip(pixels, labels, strict=True):
        assert {picture[:, 0].max(), picture[:, -1].max()} == {60 + 100 * label, 100 + 100 * label}
    assert len({int(picture[0, 0, 0]) for picture in pixels}) == 4  # some are mirrored
