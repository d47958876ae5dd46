"""A server that is away for a while: worth waiting for, and in the end one line that says which."""

from collections.abc import Iterator
from contextlib import contextmanager

from flawline.errors import FlawlineError
from flawline.settings import Settings
from flawline.track import store
from flawline.workspace import Workspace

_MAY_PASS = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "IO_ERROR"}
# Restarts of a server take seconds, those of its machine minutes.
PATIENCE: list[float] = [5, 15, 45, 120]  # seconds between tries


class Away(FlawlineError):
    """A server did not answer, or not sensibly: it may do so later, and nothing is lost until then."""


@contextmanager
def mlflow_may_be_away(workspace: Workspace, settings: Settings) -> Iterator[None]:
    """Turn what MLflow raises into one line, and say by its class whether it may pass.

    Raises:
        Away: the store did not answer, or could not just then.
        FlawlineError: it refused.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    remedy = "start it, then run flawline retrain again: finished stages stay, and the result is logged once"
    try:
        yield
    except FlawlineError as error:
        if isinstance(error, Away) or not _may_pass(error.__cause__):
            raise
        raise Away(error.problem, remedy) from error
    except (MlflowException, RequestException) as error:
        uri = store.tracking_uri(workspace, settings)
        why = f"the MLflow store {uri} failed: {' '.join(str(error).split())[:200]}"
        raise (Away(why, remedy) if _may_pass(error) else FlawlineError(why, "see its log")) from error


def _may_pass(error: BaseException | None) -> bool:
    """Not what a server has understood and refused."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    if isinstance(error, MlflowException):
        return error.error_code in _MAY_PASS
    return isinstance(error, RequestException | ConnectionError)
