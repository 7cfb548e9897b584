"""A network trained on handwritten digits: `python -m flaxlayer.demo`."""
