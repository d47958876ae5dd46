"""Where everything lies: the one place that knows the names of files and folders in a workspace."""

import os
from dataclasses import dataclass
from pathlib import Path

from flawline.errors import FlawlineError


@dataclass(frozen=True)
class Cell:
    """One tuned prompt set: which method, on which training set, with which seed."""

    method: str
    train: str
    seed: int

    @property
    def name(self) -> str:
        """`method-train-seed`, as DVC names the matrix cell."""
        return f"{self.method}-{self.train}-{self.seed}"

    @property
    def folder(self) -> Path:
        """The relative folder shared by everything that belongs to this cell."""
        return Path(self.method) / self.train / str(self.seed)


@dataclass(frozen=True)
class Workspace:
    """A folder with params.yaml in it. Stages run with it as the working directory.

    Derived files go below out/ (DVC outputs), results/, reports/ and decisions/; state that is not a
    function of files (databases, servers) goes below .state/.
    """

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> "Workspace":
        """The workspace of `start`, of FLAWLINE_WORKSPACE, or of the working directory or a parent of it."""
        begin = Path(start or os.environ.get("FLAWLINE_WORKSPACE") or Path.cwd()).resolve()
        for folder in (begin, *begin.parents):
            if (folder / "params.yaml").is_file():
                return cls(folder)
        raise FlawlineError(
            f"no params.yaml in {begin} or above it",
            "run inside a flawline checkout or set FLAWLINE_WORKSPACE",
        )

    # --- what the user brings ---------------------------------------------------------------------
    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def vocabulary(self) -> Path:
        return self.root / "vocabulary.yaml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def backbones(self) -> Path:
        return self.root / "backbones"

    # --- what the stages leave ----------------------------------------------------------------------
    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def manifest(self) -> Path:
        return self.out / "manifest.parquet"

    @property
    def checks(self) -> Path:
        """Folder with summary.json and summary.md."""
        return self.out / "checks"

    @property
    def data_docs(self) -> Path:
        """Great Expectations' pages: they carry the time of the run, so they are no DVC output."""
        return self.root / "reports" / "data_docs"

    def synth(self, train: str) -> Path:
        """Folder with images/, masks/, index.parquet and contact_sheet.png."""
        return self.out / "synth" / train

    def features(self, part: str, dataset: str) -> Path:
        """Feature folder of one data set; `part` is `train` (good + synthetic), `test` or `support` (few good)."""
        return self.out / "features" / part / dataset

    def prompts(self, cell: Cell) -> Path:
        """The prompt set: prompts.safetensors + card.json."""
        return self.out / "prompts" / cell.folder

    def tuning(self, cell: Cell) -> Path:
        """Folder with curves.csv: one row a step and quantity."""
        return self.out / "tuning" / cell.folder

    def evaluation(self, cell: Cell, test: str) -> Path:
        """Folder with scores.parquet, histograms.safetensors, metrics.csv, curves.json, overlays/."""
        return self.out / "evaluation" / cell.folder / test

    def ablation(self, method: str) -> Path:
        """The DVC project of one method's ablation: dvc.yaml, dvc.lock, and a folder for each variant."""
        return self.out / "ablations" / method

    @property
    def metrics(self) -> Path:
        return self.root / "results" / "metrics.csv"

    @property
    def results(self) -> Path:
        """Folder with metrics.csv, tests.csv, matrix.csv and matrix.md."""
        return self.root / "results"

    @property
    def ablation_tables(self) -> Path:
        """Folder with METHOD.csv and METHOD.md of every ablation that was run."""
        return self.root / "results" / "ablations"

    @property
    def report(self) -> Path:
        return self.root / "reports" / "index.html"

    @property
    def lock(self) -> Path:
        return self.root / "dvc.lock"

    # --- what the flows keep ------------------------------------------------------------------------
    @property
    def decisions(self) -> Path:
        """Append-only folder of gate decisions, NNNN-verdict.json."""
        return self.root / "decisions"

    @property
    def state(self) -> Path:
        """Databases, artifacts and logs of the embedded services; git-ignored."""
        return self.root / ".state"


@dataclass(frozen=True)
class VariantWorkspace(Workspace):
    """The workspace as one variant of a method sees it: what it makes itself lies in a folder of its own.

    Attributes:
        method, variant: whose it is.
        own: the parts of out/ that it makes anew, for example `prompts` or `features/train`; all others are the
            main line's.
    """

    method: str
    variant: str
    own: frozenset[str]

    def moved(self, path: Path) -> Path:
        """Where this variant has a folder of the main line: below out/ablations/ if it is its own."""
        if not path.is_relative_to(self.out):
            return path
        inner = path.relative_to(self.out)
        if not any(inner.is_relative_to(part) for part in self.own):
            return path
        return self.ablation(self.method) / self.variant / inner

    def synth(self, train: str) -> Path:
        return self.moved(super().synth(train))

    def features(self, part: str, dataset: str) -> Path:
        return self.moved(super().features(part, dataset))

    def prompts(self, cell: Cell) -> Path:
        return self.moved(super().prompts(cell))

    def tuning(self, cell: Cell) -> Path:
        return self.moved(super().tuning(cell))

    def evaluation(self, cell: Cell, test: str) -> Path:
        return self.moved(super().evaluation(cell, test))
