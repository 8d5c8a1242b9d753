"""Reports that are read in Prometheus: the query of an agent's pods, and an instant query's answer → one `Report` a pod.

An answer of Prometheus is validated like the report of a pod: known names and labels, finite numbers, bounds, problems as text.
"""

import json
import re
from collections.abc import Collection
from typing import Any, Final

from mabeam.core.reports.openmetrics import METRICS, Sample, report_from_samples
from mabeam.core.reports.report import MAX_PROBLEM_LENGTH, MAX_SERIES, Report

# The labels by which Prometheus knows a pod, as the Prometheus operator and the usual scrape configurations set them.
NAMESPACE_LABEL: Final = "namespace"
POD_LABEL: Final = "pod"
DEFAULT_QUERY: Final = f'{{__name__=~"{"|".join(METRICS)}", {NAMESPACE_LABEL}="$namespace", {POD_LABEL}=~"$pod"}}'
# What an aggregation, a rate or arithmetic leaves: a number without a name.
NAMELESS: Final = "mabeam_performance"
NO_ANSWER: Final = "what Prometheus answers is no answer to an instant query"

_PLACEHOLDER = re.compile(r"\$(namespace|agent|pod)\b")
_ONLY_TEXT: Final = "not a number"


def build_query(query: str, namespace: str, agent: str, pods: Collection[str]) -> str:
    """The PromQL to ask: `$namespace` and `$agent` are the names, `$pod` the pods' names as alternatives for `=~`."""
    values = {
        "namespace": _in_string(namespace),
        "agent": _in_string(agent),
        "pod": "|".join(_in_string(re.escape(pod).replace(r"\-", "-")) for pod in sorted(pods)),
    }
    return _PLACEHOLDER.sub(lambda found: values[found.group(1)], query)


def _in_string(text: str) -> str:
    """The text as it stands in a PromQL string, whichever of the two quotes that has."""
    return json.dumps(text)[1:-1].replace(r"\"", r"\x22").replace("'", r"\x27")


def problem_report(text: str) -> Report:
    """A report that says nothing but what is wrong."""
    return Report(problems=(text[:MAX_PROBLEM_LENGTH],))


def parse_query_answer(answer: Any, namespace: str, pods: Collection[str]) -> dict[str, Report]:
    """The report of each pod that the answer says something of, or that something is wrong with.

    A series with the label `pod` is that pod's, when it is one of these; one without is all of theirs. A series of another
    namespace is nobody's. `answer` is whatever JSON came.
    """
    try:
        samples = _samples(answer, namespace)
    except _NotUsable as problem:
        return {pod: problem_report(str(problem)) for pod in pods}
    by_pod: dict[str | None, list[Sample]] = {None: [], **{pod: [] for pod in pods}}
    for pod, sample in samples:
        # One beyond the bound is kept, so that the report names the problem.
        if sample[0] in METRICS and len(own := by_pod.get(pod, [])) <= MAX_SERIES:
            own.append(sample)
    return {pod: report_from_samples(sorted(own, key=_order)) for pod in pods if (own := by_pod[None] + by_pod[pod])}


def _order(sample: Sample) -> list[tuple[str, str]]:
    """Prometheus promises no order, and of what is given twice the first counts: always the same."""
    return sorted(sample[1].items())


class _NotUsable(Exception):
    """The whole answer says nothing; its text is the problem's."""


def _samples(answer: Any, namespace: str) -> list[tuple[str | None, Sample]]:
    """The samples with the pod that each names; raises `_NotUsable`."""
    match answer:
        case {"status": "success", "data": {"resultType": "vector", "result": list(series)}}:
            found = (_sample(one, namespace) for one in series)
            return [one for one in found if one is not None]
        case {"status": "success", "data": {"resultType": "scalar", "result": [_, str(value)]}}:
            return [(None, (NAMELESS, {}, value))]
        case {"status": "success", "data": {"resultType": "matrix" | "string" as shape}}:
            raise _NotUsable(f"the query gives a {shape}; an instant vector or a scalar is needed")
        case {"status": "error", "error": str(error)}:
            raise _NotUsable(f"Prometheus refuses the query: {error}")
        case _:
            raise _NotUsable(NO_ANSWER)


def _sample(series: Any, namespace: str) -> tuple[str | None, Sample] | None:
    match series:
        case {"metric": dict(labels), "value": [_, str(value)]}:
            pass
        case {"metric": dict(labels)}:
            value = _ONLY_TEXT  # a histogram: dropped, and reported like any other sample that is not a number
        case _:
            raise _NotUsable(NO_ANSWER)
    known = {key: text for key, text in labels.items() if isinstance(text, str)}
    if known.get(NAMESPACE_LABEL, namespace) != namespace:
        return None
    return known.get(POD_LABEL), (known.get("__name__") or NAMELESS, known, value)
