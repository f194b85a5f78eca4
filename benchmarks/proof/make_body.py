"""Make the bodies that several arms start from.

    python benchmarks/proof/make_body.py MODEL --layers 3 -o build/three-layers
    python benchmarks/proof/make_body.py MODEL --redraw-top 2 --seed 1 -o build/neutral

`--layers` keeps the first layers of an encoder. `--redraw-top` initializes its last layers at random, as BERT is
initialized before its pre-training, so that little is left of what it has learned about retrieval. The tokenizer, the
embeddings, the pooling and the prompts stay.
"""

import argparse
from pathlib import Path

import torch

from drtools.models.encoder import Encoder
from drtools.models.encoder_files import save_encoder
from drtools.models.loader import load_named
from drtools.models.specs import EncoderSpec


def main() -> None:
    """Load the model, change its layers, and save it; an existing folder is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--layers", type=int, help="number of first layers to keep")
    parser.add_argument("--redraw-top", type=int, default=0, help="number of last layers to initialize at random")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random initialization")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.output.exists():
        return
    encoder = load_named(EncoderSpec(model=arguments.model))
    assert isinstance(encoder, Encoder), "a model with one encoder"
    body = encoder.body
    if arguments.layers:
        body.encoder.layer = body.encoder.layer[: arguments.layers]
        body.config.num_hidden_layers = arguments.layers
    if arguments.redraw_top:
        torch.manual_seed(arguments.seed)
        with torch.no_grad():
            for layer in body.encoder.layer[-arguments.redraw_top :]:
                for module in layer.modules():
                    _initialize(module, body.config.initializer_range)
    unfinished = arguments.output.with_name(arguments.output.name + ".new")
    save_encoder(encoder, unfinished)
    unfinished.rename(arguments.output)
    count = sum(parameter.numel() for parameter in body.parameters())
    print(f"{arguments.output}: {body.config.num_hidden_layers} layers, {count:,} parameters")


def _initialize(module: torch.nn.Module, spread: float) -> None:
    """Initialize a linear layer or a LayerNorm as BERT is initialized before its pre-training."""
    if isinstance(module, torch.nn.Linear):
        torch.nn.init.normal_(module.weight, std=spread)
        torch.nn.init.zeros_(module.bias)
    elif isinstance(module, torch.nn.LayerNorm):
        torch.nn.init.ones_(module.weight)
        torch.nn.init.zeros_(module.bias)


if __name__ == "__main__":
    main()
