"""One short file per method; each reads like its paper's equation."""
