"""Runs rules over frames with Great Expectations 1.x and builds its Data Docs.

Knows nothing of what the rules are for (``checks.py``) or of what follows from them (``stages/validate.py``). The
library takes seconds to import, so it is imported when an `Expectations` is made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from captioner.checks import Outcome, Rule
from captioner.errors import BadEnvironment
from captioner.expectations.docs import Checked, make_offline


class Expectations:
    """A throw-away Great Expectations project whose results end up in one static site."""

    def __init__(self) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "false"
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        self._gx = gx
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
        # An ephemeral context makes a site of its own in a temporary folder, and leaves that behind.
        for name, site in dict(self._context.list_data_docs_sites()).items():
            self._context.delete_data_docs_site(name)
            shutil.rmtree(site["store_backend"]["base_directory"], ignore_errors=True)
        self._source = self._context.data_sources.add_pandas("captioner")
        self._checked: list[Checked] = []

    def check(self, name: str, stage: str, frame: pd.DataFrame, rules: Sequence[Rule]) -> list[Outcome]:
        """Run every rule over `frame`; one outcome a rule, in order, those that could not run with their problem.

        `name` is the suite's in Data Docs, `stage` the state of the data ("raw", "validated"). The frame has a column
        `row`, its positions. An expectation that Great Expectations does not answer for has no outcome.
        """
        gx = self._gx
        expectations = [_expectation(number, rule) for number, rule in enumerate(rules)]
        suite = self._context.suites.add(gx.ExpectationSuite(f"{name}-{stage}", expectations=expectations))
        batch = self._source.add_dataframe_asset(f"{name}-{stage}").add_batch_definition_whole_dataframe("all")
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=f"{name}-{stage}", data=batch, suite=suite)
        )
        shown = [column for column in ("row", "id") if column in frame.columns]
        result = definition.run(
            batch_parameters={"dataframe": frame},
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": shown},
            run_id=gx.RunIdentifier(run_name=stage),
        )
        # Not in order: those that could not run come first.
        answered = {one.expectation_config.meta["rule"]: one for one in result.results if one.expectation_config}
        outcomes = [_outcome(rule, answered[number]) for number, rule in enumerate(rules) if number in answered]
        self._checked.append(Checked(name, stage, len(frame), outcomes))
        return outcomes

    def build_docs(self, folder: Path) -> Path:
        """Replace `folder` by the Data Docs of everything checked so far; returns its index page."""
        new = folder.with_name(folder.name + ".new")
        try:
            shutil.rmtree(new, ignore_errors=True)
            self._context.add_data_docs_site("captioner", _site(new))
            self._context.build_data_docs(["captioner"])
            self._context.delete_data_docs_site("captioner")
            make_offline(new, self._checked)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(new, folder)
        except OSError as error:
            raise BadEnvironment(f"Data Docs cannot be written to {folder}: {error.strerror or error}.") from None
        return folder / "index.html"


def _site(folder: Path) -> Any:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "show_cta_footer": False},
    }


def _expectation(number: int, rule: Rule) -> Any:
    from great_expectations.expectations.metadata_types import FailureSeverity
    from great_expectations.expectations.registry import get_expectation_impl
    from great_expectations.expectations.row_conditions import Column

    options = dict(rule.options)
    if rule.where is not None:
        column, value = rule.where
        options["row_condition"] = Column(column) == value
    return get_expectation_impl(rule.expectation)(
        **options,
        notes=f"Otherwise: {rule.reason}.",
        severity=FailureSeverity.CRITICAL if rule.table_level else FailureSeverity.WARNING,
        meta={"rule": number},
    )


def _outcome(rule: Rule, answer: Any) -> Outcome:
    problem = _problem(answer.exception_info or {})
    if problem:
        return Outcome(rule, met=False, problem=problem)
    rows = tuple(int(one["row"]) for one in answer.result.get("unexpected_index_list") or ())
    return Outcome(rule, met=bool(answer.success), rows=rows, observed=answer.result.get("observed_value"))


def _problem(info: dict[str, Any]) -> str:
    """Why an expectation did not run; Great Expectations nests this by metric, or does not."""
    nested = [info] if "raised_exception" in info else list(info.values())
    return next((str(one.get("exception_message")) for one in nested if one.get("raised_exception")), "")
