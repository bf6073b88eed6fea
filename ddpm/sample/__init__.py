"""`python -m ddpm.sample MODEL`: pictures of a trained model on the disk."""
