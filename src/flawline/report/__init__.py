"""One self-contained page that shows what ran, what came out, and why which prompts serve."""
