"""How good a model is, in figures that another computation can check."""


class UnmeasurableError(ValueError):
    """These data have no such figure: nothing is wrong with them, or with the model."""
