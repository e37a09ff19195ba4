"""Stores every frame in MongoDB."""
