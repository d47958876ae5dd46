"""What the checks found, for machines (summary.json) and for people (summary.md): no clock, all sorted."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Finding:
    """One expectation and everything that breaks it."""

    name: str
    severity: Severity
    ok: bool
    what: str  # a sentence
    offenders: tuple[str, ...]  # "path: clause", all of them, sorted
    remedy: str = ""


@dataclass(frozen=True)
class Summary:
    """All findings and the number of images: {dataset: {category: {"good_train": n, "good_test": n, …}}}."""

    findings: tuple[Finding, ...]
    counts: dict[str, dict[str, dict[str, int]]]

    @property
    def ok(self) -> bool:
        """Whether the line may go on: warnings do not stop it."""
        return not self.broken("critical")

    def broken(self, severity: Severity) -> list[Finding]:
        """The findings of one severity that failed."""
        return [finding for finding in self.findings if finding.severity == severity and not finding.ok]

    def as_json(self) -> dict[str, Any]:
        """The content of summary.json."""
        expectations = [asdict(finding) for finding in self.findings]
        for expectation in expectations:
            expectation["offenders"] = list(expectation["offenders"])
            del expectation["remedy"]
        return {"ok": self.ok, "expectations": expectations, "counts": self.counts}

    def as_markdown(self) -> str:
        """The content of summary.md: the verdict, every offender by name, the numbers of images."""
        critical, warnings = len(self.broken("critical")), len(self.broken("warning"))
        verdict = "The data passed." if self.ok else f"The data failed {critical} critical expectation(s)."
        lines = ["# Data checks", "", f"{verdict} {warnings} warning(s)."]
        for finding in (*self.broken("critical"), *self.broken("warning")):
            lines += ["", f"## {finding.name} ({finding.severity}, {len(finding.offenders)})", ""]
            lines += [f"{finding.what} Remedy: {finding.remedy}.", ""]
            lines += [f"* {offender}" for offender in finding.offenders]
        passed = [finding for finding in self.findings if finding.ok]
        lines += ["", "## Passed", ""]
        lines += [f"* {finding.name}: {finding.what}" for finding in passed] or ["* none"]
        lines += ["", "## Images", "", "| data set | category | good train | good test | defects |"]
        lines += ["|---|---|---:|---:|---|"]
        for dataset, categories in self.counts.items():
            for category, found in categories.items():
                defects = (
                    f"{name} {n}" for name, n in found.items() if name not in {"good_train", "good_test"}
                )
                cells = (
                    dataset,
                    category,
                    found["good_train"],
                    found["good_test"],
                    ", ".join(defects) or "none",
                )
                lines.append(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |")
        return "\n".join(lines) + "\n"

    def as_lines(self, severity: Severity, limit: int = 20) -> list[str]:
        """Broken expectations for a terminal: `limit` offenders each, then how many more."""
        lines = []
        for finding in self.broken(severity):
            lines.append(f"{severity}: {finding.name}: {finding.what}")
            lines += [f"  {offender}" for offender in finding.offenders[:limit]]
            if len(finding.offenders) > limit:
                lines.append(f"  … and {len(finding.offenders) - limit} more")
        return lines
