"""The core: select positions, read them, and compute the objective. It does not know what a position stands for."""
