"""Heads: Pyramid -> HeadOutput."""
