"""Single-purpose command-line tools that train and run dense retrievers."""

__version__ = "0.1.0"
