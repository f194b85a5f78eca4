"""ADORE: hard negatives from a live index (Zhan et al., SIGIR 2021)."""
