"""Procedural pictures of industrial surfaces and parts: the sample data and the tiny CLIP's training pairs."""
