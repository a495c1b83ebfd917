"""What tasks say of scores. Their losses and tallies are tested by training with them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from efficientnet_elite.training.tasks import images_of_score


def test_the_noise_of_a_balanced_accuracy_is_that_of_fewer_images():
    """Of equal classes as many as there are; a class of two images makes it far noisier."""

    def images(*counts, score="balanced"):
        data = SimpleNamespace(
            sizes={"validation": sum(counts)}, class_counts=lambda part: np.array(counts)
        )
        return images_of_score(score, data)

    assert images(30, 30, 30) == 90
    assert images(88, 2) == images(88, 2, 0) == round(4 / (1 / 88 + 1 / 2))
    assert images(88, 2, score="top-1") == 90
