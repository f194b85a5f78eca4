"""Networks: encoders, their parts, and how they are read and written."""
