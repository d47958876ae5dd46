"""The one kind of error a user is meant to read."""


class FlawlineError(Exception):
    """Bad input or a broken environment, told in one line: what is wrong, where, and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem} — {remedy}" if remedy else problem)


class ChecksFailed(FlawlineError):
    """The data broke a critical expectation: nothing after the checks may run."""
