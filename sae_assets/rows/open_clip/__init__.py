"""Rows of images from open_clip's vision transformers."""
