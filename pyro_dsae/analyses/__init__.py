"""What can be asked of a trained model: arrays in, arrays out. Nothing here prints or draws."""
