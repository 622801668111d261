"""MGR: multi-generator-based rationalization (Liu et al. 2023)."""
