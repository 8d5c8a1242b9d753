"""The agents' offers for a value: read from their reports or preferences, and bounded by the domain."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from mabeam.api.agent import Agent, Preference
from mabeam.api.variable import Domain, DomainType, Negotiation, OrchestrationVariable
from mabeam.api.variable_status import NegotiationStrategy, Offer
from mabeam.core.algorithms.domain import clamp, fit_or_none, to_decimal
from mabeam.core.reports.report import Report

DEFAULT_WEIGHT: Final = 1.0
TEXT_LENGTH: Final = 256


@dataclass(frozen=True)
class GatheredOffers:
    """The offers that count, and those that do not."""

    offers: tuple[Offer, ...] = ()  # by agent name
    dropped: tuple[str, ...] = ()  # "agent: why", one for each offer or part of one that does not count

    @property
    def dropped_by(self) -> tuple[str, ...]:
        """The agents of which something does not count, by name."""
        return tuple(sorted({text.partition(":")[0] for text in self.dropped}))


def gather_offers(
    variable: OrchestrationVariable, agents: Sequence[Agent], reports: Mapping[str, Report]
) -> GatheredOffers:
    """Each agent's offer: its preference, of which every field that its report has too comes from the report.

    A reported weight or bid is capped by the variable. A static one is not: whoever may write a preference may write the cap.
    """
    offers: list[Offer] = []
    dropped: list[str] = []
    for agent in sorted(agents, key=lambda agent: agent.metadata.name):
        name = agent.metadata.name
        offer, problems = _offer(variable, agent, reports.get(name, Report()))
        dropped.extend(f"{name}: {problem}"[:TEXT_LENGTH] for problem in problems)
        if offer is not None:
            offers.append(offer)
    return GatheredOffers(tuple(offers), tuple(dropped))


def _offer(variable: OrchestrationVariable, agent: Agent, report: Report) -> tuple[Offer | None, list[str]]:
    """(the agent's offer, None without a usable one; what is wrong with what it offered)."""
    name, domain = variable.metadata.name, variable.spec.domain
    negotiation = variable.spec.negotiation or Negotiation()
    static = next((p for p in agent.spec.preferences if p.variable == name), Preference(variable=name))
    reader = READERS[domain.type]
    problems: list[str] = []
    source = "Report"
    value = reader.reported(domain, report, name, problems)
    if value is None and static.value is not None:
        source, value = "Spec", reader.static(domain, static.value, problems)
    if value is None:
        return None, problems + _without_value(report, name, problems)
    offered, clamped = reader.bounded(domain, value)
    fields: dict[str, Any] = {"agent": agent.metadata.name, "value": offered, "source": source}
    if clamped:
        fields["clamped"] = True
    if negotiation.strategy is NegotiationStrategy.AUCTION:
        bid = _capped(report.bids.get(name), negotiation.max_bid, static.bid)
        if bid is None:
            return None, [*problems, "it has a preference, but no bid, and an auction counts bids alone"]
        return Offer(**fields, bid=bid), problems
    weight = _capped(report.weights.get(name), negotiation.max_weight, static.weight)
    return Offer(**fields, weight=DEFAULT_WEIGHT if weight is None else weight), problems


def _without_value(report: Report, variable: str, problems: list[str]) -> list[str]:
    """What else the agent says about the variable, if that cannot count for want of a value; nothing when a problem tells why."""
    named = [noun for noun, samples in (("bid", report.bids), ("weight", report.weights)) if variable in samples]
    return [f"it reports a {' and a '.join(named)}, but no preference to go with it"] if named and not problems else []


def _capped(reported: float | None, cap: float, static: float | None) -> float | None:
    return static if reported is None else min(reported, cap)


@dataclass(frozen=True, slots=True)
class OfferReader:
    """How an offer is read for one type of domain; the first two return None for nothing usable, and append why to `problems`."""

    reported: Callable[[Domain, Report, str, list[str]], Any]  # (domain, report, variable's name, problems) → value
    static: Callable[[Domain, Any, list[str]], Any]  # (domain, the preference's value, problems) → value
    bounded: Callable[
        [Domain, Any], tuple[Any, bool]
    ]  # (domain, value) → (value in the domain, whether that changed it)


def _reported_number(domain: Domain, report: Report, variable: str, problems: list[str]) -> Any:
    if variable in report.numbers:
        return report.numbers[variable]
    if variable in report.choices:
        problems.append("it reports a choice, but the domain wants a number")
    return None


def _static_number(domain: Domain, value: Any, problems: list[str]) -> Any:
    if to_decimal(value) is None:
        problems.append(f"its preference {value!r:.80} is not a number")
        return None
    return value


def _bounded_number(domain: Domain, value: Any) -> tuple[Any, bool]:
    wanted = to_decimal(value) or Decimal(0)
    nearest = clamp(domain, wanted)
    return (int(nearest) if domain.type is DomainType.INTEGER else float(nearest)), nearest != wanted


def _reported_choice(domain: Domain, report: Report, variable: str, problems: list[str]) -> Any:
    strengths = report.choices.get(variable, {})
    if not strengths and variable in report.numbers:
        problems.append("it reports a number, but the domain wants a choice")
    choices = domain.choices or ()
    problems.extend(f"its choice {c!r:.80} is not in the domain" for c in sorted(strengths) if c not in choices)
    # A strength of 0 is no preference. `max` keeps the first of equals, so ties go by the order of the domain.
    wanted = [choice for choice in choices if strengths.get(choice, 0) > 0]
    return max(wanted, key=lambda choice: strengths[choice], default=None)


def _static_choice(domain: Domain, value: Any, problems: list[str]) -> Any:
    if not isinstance(value, str) or value not in (domain.choices or ()):
        problems.append(f"its choice {value!r:.80} is not in the domain")
        return None
    return value


def _bounded_choice(domain: Domain, value: Any) -> tuple[Any, bool]:
    return value, False


def _reported_object(domain: Domain, report: Report, variable: str, problems: list[str]) -> Any:
    if variable in report.numbers or variable in report.choices:
        problems.append(
            "it reports a number or a choice, but the domain wants an object, which only spec.preferences can hold"
        )
    return None


def _static_object(domain: Domain, value: Any, problems: list[str]) -> Any:
    found = fit_or_none(domain, value)
    if found is None:
        problems.append(f"its preference {value!r:.80} is not an object of the domain")
    return found


_NUMBERS: Final = OfferReader(_reported_number, _static_number, _bounded_number)
READERS: Final[Mapping[DomainType, OfferReader]] = {
    DomainType.NUMBER: _NUMBERS,
    DomainType.INTEGER: _NUMBERS,
    DomainType.CHOICE: OfferReader(_reported_choice, _static_choice, _bounded_choice),
    DomainType.OBJECT: OfferReader(_reported_object, _static_object, _bounded_choice),
}
