"""The page of the experiment: who is ahead, how sure that is, and what is going to happen."""

from __future__ import annotations

from typing import Any

import altair
import pandas
import streamlit as st

from captioner.errors import CaptionerError
from captioner.web.client import Client

SIGNS = {"promote": "The challenger is better", "reject": "The challenger is rejected", "continue": "Not decided yet"}


def show(client: Client) -> None:
    """Draw the page."""
    st.title("Experiment")
    try:
        found = client.experiment()
        entries = client.ledger()
    except CaptionerError as error:
        st.error(str(error))
        return
    experiment, analysis = found["experiment"], found["analysis"]
    if experiment is None or analysis is None:
        st.info("No experiment has run on this endpoint yet. `captioner experiment start` begins one.")
    else:
        _experiment(experiment, analysis)
    _ledger(entries, found.get("links", {}))


def _experiment(experiment: dict[str, Any], analysis: dict[str, Any]) -> None:
    over = f"ended {experiment['ended']} ({experiment['outcome']})" if experiment["ended"] else "running"
    st.caption(
        f"{experiment['id']} on {experiment['endpoint']}, since {experiment['started']}, {over}; "
        f"{experiment['shares']['challenger']:.0%} of the users meet the challenger; as of {analysis['as_of']}"
    )
    st.subheader(SIGNS[analysis["verdict"]], anchor=False)
    for reason in analysis["reasons"]:
        st.write(reason)
    st.table(arms(experiment, analysis))
    st.subheader("The difference over time", anchor=False)
    if any(one["low"] is not None for one in analysis["over_time"]):
        st.altair_chart(chart(analysis["over_time"]), width="stretch")
        st.caption(
            "Mean rating, challenger minus champion, with the interval that holds at every look: "
            "above the line at 0 the challenger is better."
        )
    else:
        st.info("Too few users have rated for an interval.")
    st.subheader("Guardrails", anchor=False)
    for one in analysis["guardrails"]:
        st.write(f"{'✓' if one['ok'] else '✗'} {one['name']}: {one['bounds']}; the limit is {one['limit']:g}.")
    ratio = analysis["sample_ratio"]
    st.write(
        f"{'✓' if ratio['ok'] else '✗'} sample ratio: {ratio['observed']} users met the challenger, "
        f"{ratio['expected']:.0f} were expected."
    )
    if analysis["bandit"]:
        st.write(f"Bandit: {analysis['bandit']['words']}.")
    with st.expander("By day and by slice, to look at; neither decides"):
        st.dataframe([*_named(analysis["by_day"], "at"), *_named(analysis["slices"], "value")], hide_index=True)


def arms(experiment: dict[str, Any], analysis: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Champion and challenger side by side: what is shown of each, by column."""
    return {
        f"{name} (version {experiment['arms'][name]['version']})": {
            "users": str(arm["users"]),
            "captions shown": str(arm["exposures"]),
            "ratings": str(arm["ratings"]),
            "mean rating": _figure(arm["rating"], ".2f"),
            "corrected": _figure(arm["corrected"], ".1%"),
            "failed": _figure(arm["errors"], ".1%"),
            "typical latency, ms": _figure(arm["latency_ms"], ".0f"),
        }
        for name, arm in analysis["arms"].items()
    }


def chart(over_time: list[dict[str, Any]]) -> altair.LayerChart | altair.FacetChart:
    """The interval as a band, the estimate as a line, zero as a rule; over the users who have rated."""
    data = pandas.DataFrame([one for one in over_time if one["low"] is not None])
    users = altair.X("users:Q", title="users who have rated", axis=altair.Axis(tickMinStep=1, format="d"))
    difference = altair.Y("difference:Q", title="rating points")
    base = altair.Chart(data)
    band = base.mark_area(opacity=0.25).encode(x=users, y=altair.Y("low:Q", title="rating points"), y2="high:Q")
    line = base.mark_line().encode(
        x=users, y=difference, tooltip=["at:N", "users:Q", "difference:Q", "low:Q", "high:Q"]
    )
    zero = altair.Chart(pandas.DataFrame([{"zero": 0}])).mark_rule(strokeDash=[4, 4]).encode(y="zero:Q")
    return altair.layer(band, line, zero)


def _ledger(entries: list[dict[str, Any]], links: dict[str, str]) -> None:
    st.subheader("Ledger", anchor=False)
    if not entries:
        st.write("Nothing has been changed yet.")
    for one in reversed(entries):
        st.write(
            f"**{one['number']}** {one['at']}, {one['action']} by {one['who']}. {one['why'] or 'Nobody said why.'}"
        )
    if links.get("mlflow"):
        st.link_button("The runs in MLflow", links["mlflow"])


def _named(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    kept = ("users", "difference", "low", "high")
    return [{"what": row[name], **{key: row[key] for key in kept}} for row in rows]


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
