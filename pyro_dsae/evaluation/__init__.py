"""How good a model is, in figures that another computation can check."""
