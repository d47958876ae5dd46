"""The frozen CLIP: loading, the image path (plain, V-V, locality-aware), the text path (learned tokens).

Nothing in here knows a prompt method.
"""
