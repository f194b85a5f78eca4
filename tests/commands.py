"""Commands on the toy collection that several tests run."""

from pathlib import Path

from conftest import changed_by_flags
from safetensors.numpy import load_file


@changed_by_flags
def mlm_adapt(toy, start, out, *more):
    return [
        "mlm-adapt",
        "--model",
        str(start),
        "--corpus",
        toy.corpus,
        "--batch-documents",
        "8",
        "--learning-rate",
        "1e-3",
        "--crop-tokens",
        "24",
        "--dev-documents",
        "10",
        "--precision",
        "fp32",
        "--threads",
        "1",
        "-o",
        str(out),
        *more,
    ]


def adapted_weights(folder):
    """Return the tensors of an adapted body and of its masked-language head."""
    return load_file(Path(folder) / "model.safetensors"), load_file(Path(folder) / "masked-head/model.safetensors")


@changed_by_flags
def train_rem(toy, body, out, *more):
    return [
        "train-rem",
        "--model",
        str(body),
        *toy.training,
        "--batch-queries",
        "8",
        "--learning-rate",
        "1e-2",
        "--lora-rank",
        "4",
        "--adapter-size",
        "8",
        "--precision",
        "fp32",
        "--threads",
        "1",
        "-o",
        str(out),
        *more,
    ]
