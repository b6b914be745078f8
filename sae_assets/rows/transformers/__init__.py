"""Rows of images and texts from models of the library transformers."""
