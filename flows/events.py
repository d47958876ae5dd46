"""Telling a Prefect server that there is a new defect type; what happens then is the deployments' matter."""

from uuid import UUID

from flawline.new_types import events
from flawline.workspace import Workspace
from flows.stages import say


def emit_new_type(workspace: Workspace, dataset: str, defect: str, images: int, event_id: str) -> bool:
    """Announce a new defect type to the server of PREFECT_API_URL.

    Announcing the same event again is harmless: the retraining that it starts finds it answered.

    Args:
        workspace: whose.
        dataset: folder below data/.
        defect: the type.
        images: how many of it there are, for people.
        event_id: of `flawline.new_types.events.event_id`.

    Returns:
        Whether the server has it. False, with a line on standard error, where no server is named or it does not
        answer: `flawline retrain` then does what the event would have done.

    Raises:
        FlawlineError: `event_id` is none.
    """
    events.check_id(event_id)
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.events import Event, Resource
    from prefect.settings import PREFECT_API_URL

    server = PREFECT_API_URL.value()
    if not server:
        say(
            f"new type {defect} in {dataset}: no Prefect server is named (PREFECT_API_URL), nothing was emitted"
        )
        return False
    about = {"prefect.resource.id": events.resource(workspace), "prefect.resource.name": workspace.root.name}
    told = {"dataset": dataset, "defect": defect, "images": images, "event_id": event_id}
    event = Event(
        id=UUID(event_id),
        event=events.NEW_TYPE,
        resource=Resource(about),
        payload=told,
    )
    # By a request that the server answers, and not by `emit_event`: its thread sends some time later and tells
    # nobody whether it could, but what counts as announced is never announced again.
    try:
        with get_client(sync_client=True) as client:
            answer = client.request("POST", "/events", json=[event.model_dump(mode="json")])
            answer.raise_for_status()
    except (HTTPError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        say(f"new type {defect} in {dataset}: the Prefect server {server} did not take the event: {why}")
        return False
    events.note_announced(workspace, event_id, dataset, defect)
    return True
