"""NNX modules: as pure functions of what is in their variables."""
