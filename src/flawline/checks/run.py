"""Running the suite with Great Expectations: Data Docs for browsing, a summary that names every offender."""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawline.checks.summary import Finding, Summary
from flawline.checks.tables import category_table, dataset_table, images_with_masks
from flawline.data.manifest import COLUMNS, count_images
from flawline.data.vocabulary import Vocabulary
from flawline.files import atomic_folder
from flawline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from flawline.checks.rules import Rule

_KEYS = {"images": "image", "masked": "image", "categories": "key", "datasets": "key"}


def run_checks(
    manifest: "pd.DataFrame", settings: Settings, vocabulary: Vocabulary, data_root: Path, docs_folder: Path
) -> Summary:
    """Put every expectation on the manifest and write Data Docs.

    Args:
        manifest: the image table, see flawline.data.manifest.
        settings: says what trains, what tests and the limits.
        vocabulary: the known defect types.
        data_root: the folder that image paths are relative to.
        docs_folder: replaced by the new Data Docs, index.html is the way in. They carry the time of the run.

    Returns:
        One finding an expectation, in a fixed order; the same data gives the same summary.
    """
    from flawline.checks.rules import make_rules

    sound = list(manifest.columns) == list(COLUMNS)
    tables = {"images": manifest}
    if sound:
        tables["masked"] = images_with_masks(manifest)
        tables["categories"] = category_table(manifest, settings.data)
        tables["datasets"] = dataset_table(manifest, settings.data)
    rules = make_rules(manifest, settings, vocabulary, data_root, sound)
    with atomic_folder(docs_folder) as pages, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Great Expectations warns about its own use of pandas
        results = _validate(tables, rules, pages)
    rows = {table: content.to_dict("records") for table, content in tables.items()}
    findings = tuple(_finding(rule, results[rule.name], rows[rule.table]) for rule in rules)
    return Summary(findings, count_images(manifest) if sound else {})


def _validate(tables: dict[str, "pd.DataFrame"], rules: list["Rule"], pages: Path) -> dict[str, Any]:
    """{rule name: Great Expectations' result} of one checkpoint a table; the Data Docs go to `pages`."""
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = _context(pages)
    source = context.data_sources.add_pandas("flawline")
    results = {}
    for table, content in tables.items():
        batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
        suite = context.suites.add(gx.ExpectationSuite(name=table))
        for rule in rules:
            if rule.table == table:
                suite.add_expectation(rule.expectation)
        validation = gx.ValidationDefinition(name=table, data=batch, suite=suite)
        checkpoint = gx.Checkpoint(
            name=table,
            validation_definitions=[context.validation_definitions.add(validation)],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [_KEYS[table]]},
        )
        outcome = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": content})
        for run in outcome.run_results.values():
            results.update({result.expectation_config.meta["name"]: result for result in run.results})
    context.build_data_docs()
    return results


def _context(pages: Path) -> Any:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    for site in list(context.get_site_names()):
        context.delete_data_docs_site(site)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(pages.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    config: Any = {"class_name": "SiteBuilder", "store_backend": store, "site_index_builder": index}
    context.add_data_docs_site(site_name="flawline", site_config=config)
    return context


def _finding(rule: "Rule", result: Any, rows: list[dict[Any, Any]]) -> Finding:
    offenders: set[str] = set()
    if not result.success:
        key = _KEYS[rule.table]
        by_key = {row.get(key): row for row in rows}
        for place in result.result.get("unexpected_index_list") or []:
            offenders.add(rule.tell(by_key[place[key]]))
        if not offenders:
            offenders.add(f"manifest: {_reason(result)}")
    return Finding(
        rule.name, rule.severity, bool(result.success), rule.what, tuple(sorted(offenders)), rule.remedy
    )


def _reason(result: Any) -> str:
    """Why an expectation failed that points at no row: a wrong column, or an exception on the way."""
    details = result.result.get("details") or {}
    wrong = [
        f"column {item['Expected Column Position'] + 1} is '{item['Found']}', expected '{item['Expected']}'"
        for item in details.get("mismatched", [])
    ]
    if wrong:
        return "; ".join(wrong)
    if "observed_value" in result.result:
        return f"found {result.result['observed_value']}"
    problems = [result.exception_info, *result.exception_info.values()]
    raised = [item.get("exception_message") for item in problems if isinstance(item, dict)]
    messages = {" ".join(str(message).split()) for message in raised if message}
    return "; ".join(sorted(messages)) or "the expectation failed"
