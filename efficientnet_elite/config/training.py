"""Settings of the training of one network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from efficientnet_elite.errors import UserError
from efficientnet_elite.fields import check, documented, setting

SCHEDULES = ("exponential", "cosine")
OPTIMIZERS = ("rmsprop", "adamw", "sgd")
DISTILLATIONS = ("none", "features", "logits", "both")
MIXES = ("none", "mixup", "cutmix", "mixup+cutmix")
LAST, STAGES = "last", "stages"  # values of TrainConfig.teacher_reads
# Values of TrainConfig.pretrained that name no weights; AUTO, a preset too, lets the job choose.
AUTO, NONE = "auto", "none"
BALANCED = "balanced"  # a value of TrainConfig.class_weights and of TrainConfig.score
OVERSAMPLE = "oversample"  # a value of TrainConfig.class_weights
SCORES = ("top-1", BALANCED)
FLOAT32 = "float32"
PRECISIONS = (AUTO, FLOAT32, "bfloat16", "float16")
# What trainings had that were begun before there were these settings.
BEFORE: Mapping[str, Any] = {"precision": FLOAT32, "deterministic": True}
# Settings on which no result depends: a training goes on with other values of them.
WITHOUT_EFFECT = ("checkpoint_minutes",)


@documented
@dataclass(frozen=True)
class TrainConfig:
    """The training recipe, by default that of section 5.1 of arXiv 2009.07409."""

    epochs: int = setting(
        350,
        "Epochs of a complete training, over which the learning rate is scheduled.",
        above=0,
    )
    batch_size: int = setting(100, "Number of images in a training step.", above=0)
    accumulate: int = setting(
        1,
        "Number of equal parts of a batch that go through the network one after the other, for "
        "batches that do not fit into memory. Their gradients are averaged, and then there is one "
        "step of the optimizer. Batch normalisation sees each part by itself.",
        at_least=1,
    )
    learning_rate: float = setting(
        0.00625, "Highest learning rate, reached at the end of the warm-up.", above=0
    )
    warmup_epochs: float = setting(
        5.0,
        "Number of epochs at the start in which the learning rate rises linearly from 0.",
        at_least=0,
    )
    schedule: str = setting(
        "exponential",
        "How the learning rate falls after warm-up: exponential multiplies it by decay_rate every "
        "decay_epochs, cosine lowers it to 0 at the last epoch.",
        choices=SCHEDULES,
    )
    decay_rate: float = setting(
        0.97,
        "Factor by which the exponential schedule multiplies the learning rate.",
        flag=False,
        above=0,
    )
    decay_epochs: float = setting(
        2.4,
        "Number of epochs after which the exponential schedule applies decay_rate once.",
        flag=False,
        above=0,
    )
    rho: float = setting(
        0.9,
        "Decay of RMSProp's moving average of squared gradients.",
        flag=False,
        at_least=0,
        at_most=1,
    )
    momentum: float = setting(0.9, "Momentum of RMSProp.", flag=False, at_least=0, at_most=1)
    epsilon: float = setting(
        1e-3,
        "Constant that is added to RMSProp's moving average of squared gradients, under the root.",
        flag=False,
        above=0,
    )
    weight_decay: float = setting(
        1e-5,
        "Factor of the L2 penalty on all weights except those of batch normalisation.",
        at_least=0,
    )
    ema: float = setting(
        0.9999,
        "Decay of the exponential moving average of the weights, which is what is evaluated and "
        "exported. Step t uses min(ema, (1 + t) / (10 + t)), which suits short trainings too.",
        at_least=0,
        at_most=1,
    )
    label_smoothing: float = setting(
        0.1,
        "Share of the training target, 0..1, that is spread evenly over all classes.",
        at_least=0,
        at_most=1,
    )
    mix: str = setting(
        "none",
        "Mixing of each training image and its label with another one of its batch. mixup: a "
        "weighted mean of both; cutmix: a rectangle of the other; mixup+cutmix: either, at even "
        "odds; none. For classification only.",
        choices=MIXES,
    )
    score: str = setting(
        "top-1",
        "What networks are judged by on the validation part. top-1: share of right answers; "
        "balanced: balanced accuracy, the mean of the shares of all classes, which counts rare "
        "classes as much as frequent ones. Segmentation networks have mIoU instead.",
        choices=SCORES,
    )
    class_weights: str = setting(
        NONE,
        "Weights of the classes in the loss. balanced: each class counts the same, however few "
        "images it has; none: each image counts the same; or a JSON or CSV file with the weight of "
        "classes by their names, others have 1. oversample: none, but each class is drawn equally "
        "often in each epoch, its images in turn; for classification only.",
    )
    batch_norm_momentum: float = setting(
        0.99,
        "Momentum of batch normalisation's moving statistics. The default needs some hundreds of "
        "steps; use 0.9 for short trainings on small data sets.",
        flag=False,
        at_least=0,
        at_most=1,
    )
    drop_rates: float = setting(
        1.0,
        "Factor, 0..1, of each network's rates of dropout and stochastic depth. Use 0 for short "
        "trainings, which do not overfit.",
        flag=False,
        at_least=0,
        at_most=1,
    )
    pretrained: str | None = setting(
        None,
        "Pretrained weights that networks start from: the name of a source (`elite weights` lists "
        "them), a file, a folder of `elite pretrain`, imagenet for the published network of their "
        "family, or none for random weights. By default, or with auto, a source of exactly the "
        "same kind is used if one is on this machine. Pretrained weights change the defaults of "
        "the recipe (docs/transfer.md).",
    )
    optimizer: str = setting(
        "rmsprop",
        "Optimizer. rmsprop: that of the paper; adamw: Adam with decoupled weight decay, for short "
        "trainings; sgd: with Nesterov momentum, which needs a larger learning rate, such as 0.05.",
        choices=OPTIMIZERS,
    )
    gradient_clip: float | None = setting(
        None,
        "Largest norm of all gradients together; larger ones are scaled down. By default there is "
        "no limit.",
        flag=False,
        above=0,
    )
    distill: str = setting(
        "none",
        "Distillation from the network that the pretrained weights belong to. features: its "
        "feature maps are matched; logits: its predictions, after a linear head was fitted to the "
        "classes of the data set; both; none.",
        choices=DISTILLATIONS,
    )
    distill_weight: float = setting(
        1.0,
        "Weight of the distillation loss at the start of training. It falls linearly to 0.",
        flag=False,
        at_least=0,
    )
    teacher_reads: str = setting(
        LAST,
        "What the teacher's classifier reads where its predictions are distilled. last: the "
        "features that the classifier of its pretraining read; stages: mean and deviation of the "
        "feature maps of all stages, and its predictions are then distilled with "
        "distill=features, too.",
        flag=False,
        choices=(LAST, STAGES),
    )
    freeze_statistics: bool = setting(
        False,
        "Leave the statistics of batch normalisation that come from pretrained weights as they "
        "are, and normalise with them in training, too.",
        flag=False,
    )

    precision: str = setting(
        AUTO,
        "Numbers in which a training step computes; weights stay float32, and evaluation and "
        "export are in float32. float32; bfloat16 or float16: mixed precision, which is faster on "
        "GPUs; auto: float32, or float16 on GPUs that Keras recommends it for.",
        choices=PRECISIONS,
    )
    deterministic: bool | None = setting(
        None,
        "Train with deterministic kernels alone, so that the same settings give the same scores "
        "on the same machine. By default so on CPUs, and not on GPUs, where these kernels are "
        "slower.",
    )
    checkpoint_minutes: float = setting(
        10.0,
        "Minutes after which the state of a training is written within an epoch, so that it goes "
        "on from there where it is killed; 0 to write it after whole epochs only. No result "
        "depends on it.",
        at_least=0,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.batch_size % self.accumulate:
            raise UserError(
                f"accumulate={self.accumulate}: a batch of {self.batch_size} images has no "
                f"{self.accumulate} equal parts: use a batch size that is a multiple of it"
            )

    def as_begun(self, begun: TrainConfig) -> TrainConfig:
        """This recipe with what it leaves to the machine as in the training that it continues."""
        is_open = self.deterministic is None
        return replace(
            self,
            precision=begun.precision if self.precision == AUTO else self.precision,
            deterministic=begun.deterministic if is_open else self.deterministic,
        )

    @property
    def is_pretrained(self) -> bool:
        """Whether networks start from pretrained weights; AUTO must have been decided before."""
        if self.pretrained == AUTO:
            raise ValueError("pretrained=auto has to be replaced by the name of a source")
        return self.pretrained not in (None, NONE)
