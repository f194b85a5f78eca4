"""Cross-encoders: training and dev measures of rankers."""
