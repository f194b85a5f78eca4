"""Models: encoders, cross-encoders and their parts, and their files."""
