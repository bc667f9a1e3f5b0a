"""What Hydra needs to know of this project's sweeps; found by Hydra under this name."""
