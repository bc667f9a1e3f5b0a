"""Data sets, augmentation and the DataModule; nothing here knows of a model."""
