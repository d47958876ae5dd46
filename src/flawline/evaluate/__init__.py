"""How good a prompt set is: metrics (pure functions), their intervals, and the tables made of them.

Nothing here knows a prompt method: a scorer gives scores and maps batch by batch, tables and pictures go out.
"""
