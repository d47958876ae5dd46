"""How good a prompt set is: metrics (pure functions), their intervals, and the tables made of them.

Nothing here knows a prompt method: scores and maps come in as arrays, tables and pictures go out.
"""
