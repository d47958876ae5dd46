"""What a look brought, in lines for a terminal and as Markdown for a server's page."""

from flawline.errors import FlawlineError
from flawline.settings import Settings
from flawline.watch.look import Look
from flawline.watch.review import page_of, review_folder
from flawline.workspace import Workspace


def lines(workspace: Workspace, found: Look) -> list[str]:
    """What is new, and nothing where nothing is: quiet looks stay quiet but for one line."""
    told = [f"bad image, skipped: {problem}" for problem in found.problems]
    news = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.counts.items())) or "nothing new"
    told.append(f"looked: {news}; {sum(found.total.values())} images in all; {found.drift.text}")
    for number in found.opened:
        told.append(f"REVIEW: item {number} looks like a new defect type: {page_of(workspace, number)}")
    for number in found.grown:
        told.append(f"review item {number} got more images: {page_of(workspace, number)}")
    if found.drift.drifted:
        told.append("DRIFT: good images differ from the labelled ones: look at lighting, camera, product")
    return told


def markdown(workspace: Workspace, found: Look) -> str:
    """The same for the Prefect UI."""
    rows = [
        f"| {verdict} | {found.counts.get(verdict, 0)} | {count} |" for verdict, count in found.total.items()
    ]
    text = ["| images | new | all |", "|---|---:|---:|", *rows, "", f"{found.drift.text}."]
    for number in found.opened:
        text.append(f"* **review item {number}** was opened: `{page_of(workspace, number)}`")
    text += [f"* skipped: {problem}" for problem in found.problems]
    return "\n".join([*text, "", f"All items: `{review_folder(workspace) / 'index.html'}`", ""])


def source_of(settings: Settings, given: str | None) -> str:
    """The source named on the command line, else the one of params.yaml.

    Raises:
        FlawlineError: neither names one.
    """
    source = given or settings.watch.source
    if not source:
        raise FlawlineError(
            "nothing to watch", "name a folder or an s3:// prefix, or set watch.source in params.yaml"
        )
    return source
