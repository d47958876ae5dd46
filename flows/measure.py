"""Measuring a prompt set on the workspace's test sets: the gate does it with a champion, `evaluate` with any."""

from dataclasses import dataclass
from pathlib import Path

from flawline.files import read_json
from flawline.settings import Settings
from flawline.workspace import Cell, Workspace


@dataclass(frozen=True)
class Elsewhere(Workspace):
    """The workspace, but with one prompt set and its evaluations in folders of their own."""

    prompt_set: Path
    target: Path

    def prompts(self, cell: Cell) -> Path:
        return self.prompt_set

    def evaluation(self, cell: Cell, test: str) -> Path:
        return self.target / test


def measure(workspace: Workspace, settings: Settings, prompt_set: Path, sha256: str) -> dict[str, Path]:
    """Evaluate a prompt set on every test set, by the stage that evaluates the workspace's own.

    Args:
        workspace: whose features are scored.
        settings: its params.yaml.
        prompt_set: the folder.
        sha256: of it (`flawline.files.sha256_folder`); names the place of the result.

    Returns:
        Evaluation folders by test set, below .state/gate/<sha256>/.

    Raises:
        FlawlineError: a test image trained the prompts, they belong to another backbone, or a file is missing.
    """
    from flawline.stages import evaluate

    card = read_json(prompt_set / "card.json")
    cell = Cell(str(card["method"]), str(card["train_set"]), int(card["seed"]))
    target = workspace.state / "gate" / sha256
    place = Elsewhere(workspace.root, prompt_set, target)
    for test in settings.data.test:
        evaluate.run(place, settings, cell, test)
    return {test: target / test for test in settings.data.test}
