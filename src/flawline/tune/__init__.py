"""Staged tuning of prompts on cached features: the loop, the shared losses, the gradient guidance."""
