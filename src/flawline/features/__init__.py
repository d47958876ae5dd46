"""The feature store: CLIP sees an image once, and everything after reads these folders."""
