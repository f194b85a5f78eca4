"""Single-purpose command-line tools that train and run dense retrievers."""

__version__ = "0.2.0.dev0"
