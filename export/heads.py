"""What a classifier ends with: logits or probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

OUTPUTS = ("logits", "softmax")


def with_output(model: keras.Model, output: str) -> keras.Model:
    """A model that ends with logits or with softmax.

    Args:
      model: functional, with one output (batch, classes). Where a softmax is the activation of its
        last layer, and is to go, that layer is changed.
      output: one of `OUTPUTS`.
    """
    import keras

    if output not in OUTPUTS:
        raise ValueError(f"{output!r} is no output: {', '.join(OUTPUTS)}")
    if ends_in_softmax(model) == (output == "softmax"):
        return model
    if output == "softmax":
        probabilities = keras.layers.Softmax(name="probabilities")(model.outputs[0])
        return keras.Model(model.inputs[0], probabilities, name=model.name)
    last, source = _last(model)
    if isinstance(last, keras.Model):
        return keras.Model(model.inputs[0], with_output(last, output)(source), name=model.name)
    if hasattr(last, "kernel"):
        last.activation = keras.activations.linear
        return model
    return keras.Model(model.inputs[0], source, name=model.name)


def ends_in_softmax(model: keras.Model) -> bool:
    """Whether the last layer is a softmax, or has it as its activation."""
    import keras

    last, _ = _last(model)
    if isinstance(last, keras.Model):
        return ends_in_softmax(last)
    activation = getattr(last, "activation", None)
    return activation is keras.activations.softmax or type(last).__name__ == "Softmax"


def _last(model: keras.Model) -> tuple[Any, Any]:
    """The last layer or operation, and the tensor that it reads."""
    last, index, _ = model.outputs[0]._keras_history
    sources = last._inbound_nodes[index].input_tensors
    return last, sources[0] if sources else None
