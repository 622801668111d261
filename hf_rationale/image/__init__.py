"""A kind of input: images. Pixels or square patches are selected, and an image classifier reads them alone."""
