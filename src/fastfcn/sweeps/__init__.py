"""Sweeps: the jobs of a table, which of them are done, and a process for each.

``jobs`` says what there is to run, ``process`` runs one, ``devices`` deals GPUs, ``summary`` tells how they ended. What
Hydra needs to know of it is in ``hydra_plugins.fastfcn_sweeper``.
"""
