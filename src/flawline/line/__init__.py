"""The line as DVC keeps it: which stages there are and must run, and running them."""
