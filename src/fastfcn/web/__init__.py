"""The page that compares two models on an image: ``make web``.

It is served to this machine alone, asks no other host for anything, and keeps what is uploaded no longer than it runs.
"""
