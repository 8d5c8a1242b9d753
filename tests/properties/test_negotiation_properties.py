"""Theorems about negotiation, and the silence that follows a decision."""

import string
from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mabeam.api.base import MAGNITUDE
from mabeam.api.variable import Domain, Negotiation
from mabeam.api.variable_status import Offer
from mabeam.core.algorithms import domain as domains
from mabeam.core.coordination.offers import GatheredOffers, gather_offers
from mabeam.core.coordination.strategies.negotiation import StrategyResult, negotiate
from mabeam.core.reports.openmetrics import parse
from mabeam.core.reports.report import MAX_PROBLEM_LENGTH, MAX_PROBLEMS, Report
from mabeam.shell.reconcile.early_writes import EarlyDelivery
from support.builders import agent_body, an_agent
from support.coordination import SIZES, Team, a_domain, a_variable, an_offer, in_json, prefers, variable_body

NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=6)
VALUES = st.one_of(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.integers(-1000, 1000),
    st.sampled_from([0.1, 0.2, 0.3, 0.7, 1e-9, 1e12, -1e12]),
)
WEIGHTS = st.one_of(st.floats(0, 1e6, allow_nan=False), st.sampled_from([0.0, 1.0, 0.1]))
BIDS = st.one_of(st.integers(0, 20).map(float), st.floats(0, 100, allow_nan=False))
STEPS = st.one_of(st.none(), st.sampled_from([0.05, 0.1, 0.3, 1, 2.5, 7, 1e-9]))


@st.composite
def numeric_domains(draw: st.DrawFn) -> Domain:
    low = draw(st.one_of(st.none(), st.integers(-50, 50).map(lambda i: i / 4)))
    high = draw(st.one_of(st.none(), st.integers(0, 200).map(lambda i: (low or 0) + i / 4)))
    kind = draw(st.sampled_from(["Number", "Integer"]))
    words = {"minimum": low, "maximum": high, "step": draw(STEPS)}
    return a_domain(type=kind, **{key: value for key, value in words.items() if value is not None})


@st.composite
def offers(draw: st.DrawFn, domain: Domain, values: st.SearchStrategy[Any] = VALUES) -> tuple[Offer, ...]:
    names = draw(st.lists(NAMES, min_size=1, max_size=7, unique=True))
    drawn = ((name, domains.to_decimal(draw(values))) for name in names)
    bounded = ((name, domains.clamp(domain, value or Decimal(0))) for name, value in drawn)
    return tuple(an_offer(name, float(value), draw(WEIGHTS), draw(BIDS)) for name, value in sorted(bounded))


SETUPS = st.sampled_from(
    [
        {},
        {"aggregation": "Median"},
        {"aggregation": "TrimmedMean"},
        {"strategy": "Auction"},
        {"strategy": "Auction", "payment": "SecondPrice", "reservePrice": 5},
    ]
)


def decide(setup: dict[str, Any], domain: Domain, brought: tuple[Offer, ...]) -> StrategyResult:
    return in_json(negotiate(Negotiation.model_validate(setup), domain, GatheredOffers(brought)))


# --- order ------------------------------------------------------------------------------------------------------------


@given(st.data(), SETUPS, numeric_domains())
def test_the_order_of_the_offers_does_not_matter(data: st.DataObject, setup: dict[str, Any], domain: Domain) -> None:
    brought = data.draw(offers(domain))
    shuffled = tuple(data.draw(st.permutations(brought)))
    one, other = decide(setup, domain, brought), decide(setup, domain, shuffled)
    assert (one.value, one.rule, one.winner, one.payment) == (other.value, other.rule, other.winner, other.payment)


@given(st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=5, unique_by=lambda pair: pair[0]))
def test_the_order_in_which_agents_are_listed_does_not_matter(wishes: list[tuple[str, Any]]) -> None:
    agents = [an_agent(name, preferences=[prefers(value)]) for name, value in wishes]
    variable = a_variable(negotiation={})
    first, *others = (gather_offers(variable, order, {}) for order in list(permutations(agents))[:6])
    assert all(other == first for other in others)


# --- the domain -------------------------------------------------------------------------------------------------------


@given(st.data(), SETUPS, numeric_domains())
def test_every_outcome_lies_in_the_domain_and_on_its_grid_or_at_its_bound(
    data: st.DataObject, setup: dict[str, Any], domain: Domain
) -> None:
    result = decide(setup, domain, data.draw(offers(domain)))
    if result.value is None:
        return
    assert domains.check(domain, result.value) is None
    assert isinstance(result.value, int) == (domain.type == "Integer")
    value, (low, high) = Decimal(repr(result.value)), domains.bounds(domain)
    if domain.step is None or value in (low, high) or (domain.type == "Integer" and domain.step % 1):
        return
    origin = low if domain.minimum is not None else Decimal(0)
    steps = (value - origin) / Decimal(repr(domain.step))
    # A float carries 17 digits: beyond 1e6 / 1e-9 steps the nearest float is all that can be asked for.
    assert abs(steps - steps.to_integral_value()) <= abs(value) * Decimal("1e-15") / Decimal(repr(domain.step))


@given(VALUES, numeric_domains())
def test_a_fitted_value_fits(value: Any, domain: Domain) -> None:
    number = domains.to_decimal(value)
    assert number is not None
    if domains.empty_reason(domain):
        return
    fitted = domains.fit(domain, number)
    if domain.type == "Integer" and domain.step is not None and domain.step % 1:
        return  # whole numbers off a broken grid: 2.5 is 3, and 3 is nearer to 2.5 than to 5
    assert domains.fit(domain, domains.to_decimal(fitted) or Decimal(0)) == fitted


@given(st.data(), numeric_domains(), st.sampled_from(["Mean", "Median", "TrimmedMean"]))
def test_without_a_grid_the_consensus_lies_between_the_offers(
    data: st.DataObject, domain: Domain, aggregation: str
) -> None:
    domain = domain.model_copy(update={"step": None})
    brought = tuple(o.model_copy(update={"weight": o.weight or 1.0}) for o in data.draw(offers(domain)))
    result = decide({"aggregation": aggregation}, domain, brought)
    if result.value is not None:
        assert min(o.value for o in brought) <= result.value <= max(o.value for o in brought)


@given(VALUES, st.integers(1, 9), st.sampled_from(["Mean", "Median", "TrimmedMean"]))
def test_agents_who_agree_get_what_they_want_to_the_last_digit(value: Any, count: int, aggregation: str) -> None:
    brought = tuple(an_offer(f"a{i}", float(value), 0.1 * (i + 1)) for i in range(count))
    assert decide({"aggregation": aggregation}, Domain(), brought).value == float(value)


# --- hostile agents ---------------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.floats(-1e300, 1e300, allow_nan=False),
    st.floats(0, 1e300, allow_nan=False),
    st.floats(0.1, 10),
)
def test_one_hostile_report_moves_the_mean_by_no_more_than_its_capped_share_of_the_domain(
    honest: list[float], wish: float, weight: float, cap: float
) -> None:
    variable = a_variable(negotiation={"maxWeight": cap}, domain={"minimum": 0, "maximum": 1})
    agents = [an_agent(f"a{i}", preferences=[prefers(value)]) for i, value in enumerate(honest)]
    report = Report(numbers={"temperature": wish}, weights={"temperature": weight})
    negotiation = variable.spec.negotiation or Negotiation()
    before = in_json(negotiate(negotiation, variable.spec.domain, gather_offers(variable, agents, {})))
    brought = gather_offers(variable, [*agents, an_agent("hostile")], {"hostile": report})
    after = in_json(negotiate(negotiation, variable.spec.domain, brought))
    share = min(weight, cap) / (min(weight, cap) + len(honest))
    assert abs(after.value - before.value) <= share + 1e-12


@given(st.lists(st.floats(0, 1), min_size=3, max_size=9), st.sampled_from([-1e9, 1e9]))
def test_less_than_half_of_the_weight_cannot_drag_the_median_outside_the_others(
    honest: list[float], wish: float
) -> None:
    hostile = [an_offer(f"h{i}", wish) for i in range((len(honest) - 1) // 2)]
    brought = (*hostile, *(an_offer(f"a{i}", value) for i, value in enumerate(honest)))
    value = decide({"aggregation": "Median"}, Domain(), brought).value
    assert min(honest) <= value <= max(honest)


@given(st.binary(max_size=2000) | st.text(max_size=2000))
def test_whatever_an_agent_sends_is_a_report(text: str | bytes) -> None:
    report = parse(text)
    assert len(report.problems) <= MAX_PROBLEMS
    assert all(len(problem) <= MAX_PROBLEM_LENGTH for problem in report.problems)


LINES = st.sampled_from(
    [
        'mabeam_preference{variable="t"} ',
        'mabeam_preference{variable="t",value="x"} ',
        'mabeam_preference_weight{variable="t"} ',
        'mabeam_bid{variable="t"} ',
        'mabeam_vote{proposal="p",choice="Yes"} ',
        "mabeam_applied_generation ",
        'mabeam_refused{variable="t",generation="1",reason="r"} ',
        "mabeam_progress_total ",
        "mabeam_performance ",
    ]
)
NUMBERS = st.one_of(
    st.floats().map(repr), st.integers().map(str), st.sampled_from(["NaN", "+Inf", "1e999", "", "0x1", "1_0", "١"])
)


@given(st.lists(st.tuples(LINES, NUMBERS), max_size=20))
def test_every_number_in_a_report_is_finite_and_every_amount_is_not_negative(lines: list[tuple[str, str]]) -> None:
    report = parse("\n".join(line + number for line, number in lines))
    amounts = [*report.weights.values(), *report.bids.values(), *report.choices.get("t", {}).values()]
    numbers = [*amounts, *report.numbers.values(), *report.performance.values(), report.progress or 0]
    assert all(abs(number) < float("inf") for number in numbers)
    assert all(amount >= 0 for amount in amounts)


# --- auctions ---------------------------------------------------------------------------------------------------------


@given(st.lists(BIDS, min_size=1, max_size=6), BIDS, BIDS, BIDS)
def test_in_a_second_price_auction_no_bid_does_better_than_the_true_worth(
    others: list[float], worth: float, lie: float, reserve: float
) -> None:
    """Vickrey's theorem: utility (worth minus payment when one wins, else 0) is never higher for a lie."""

    def utility(bid: float) -> float:
        brought = (an_offer("me", 1, None, bid), *(an_offer(f"o{i}", 0, None, b) for i, b in enumerate(others)))
        result = decide(
            {"strategy": "Auction", "payment": "SecondPrice", "reservePrice": reserve}, Domain(), tuple(brought)
        )
        return worth - (result.payment or 0) if result.winner == "me" else 0

    assert utility(worth) >= utility(lie)
    assert utility(worth) >= 0


@given(st.data(), numeric_domains(), BIDS)
def test_the_winner_never_pays_more_than_its_bid_nor_less_than_the_reserve(
    data: st.DataObject, domain: Domain, reserve: float
) -> None:
    brought = data.draw(offers(domain))
    for payment in ("FirstPrice", "SecondPrice"):
        result = decide({"strategy": "Auction", "payment": payment, "reservePrice": reserve}, domain, brought)
        bids = {offer.agent: offer.bid or 0 for offer in brought}
        if result.winner is None:
            assert all(bid < reserve for bid in bids.values()) or result.error is not None
        else:
            assert reserve <= (result.payment or 0) <= bids[result.winner] == max(bids.values())


# --- plurality --------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(SIZES["choices"]), st.integers(0, 4)), min_size=1, max_size=8))
def test_the_plurality_is_the_first_choice_in_the_domains_order_with_the_most_weight(
    votes: list[tuple[str, int]],
) -> None:
    brought = tuple(an_offer(f"a{i}", choice, weight) for i, (choice, weight) in enumerate(votes))
    result = decide({}, a_domain(**SIZES), brought)
    behind = [sum(weight for choice, weight in votes if choice == size) for size in SIZES["choices"]]
    expected = SIZES["choices"][behind.index(max(behind))] if sum(behind) else None
    assert result.value == expected


# --- silence ----------------------------------------------------------------------------------------------------------


AGENTS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "value": st.one_of(st.floats(-5, 5), st.integers(-5, 5), st.sampled_from(["small", "huge"])),
            "weight": st.sampled_from([0, 0.5, 3]),
            "bid": st.integers(0, 9),
        },
    ),
    min_size=1,
    max_size=4,
)
SPECS = st.fixed_dictionaries(
    {"negotiation": SETUPS},
    optional={
        "value": st.sampled_from([0.5, 3, "small", -9]),
        "domain": st.sampled_from([{}, {"minimum": 0, "maximum": 2, "step": 0.3}, SIZES, {"type": "Integer"}]),
        "mode": st.sampled_from(["Active", "Advise"]),
        "paused": st.booleans(),
        "priority": st.integers(-3, 3),
    },
)


@settings(deadline=None)
@given(AGENTS, SPECS, st.dictionaries(st.integers(0, 3), st.floats(-9, 9)), st.booleans(), st.integers(0, 100))
def test_after_a_decision_there_is_radio_silence(
    wishes: list[dict[str, Any]], spec: dict[str, Any], said: dict[int, float], hears: bool, later: int
) -> None:
    """An unchanged world gives the stored status again: no write, no effect, no Event, however often it is looked at."""
    names = [f"a{i}" for i in range(len(wishes))]
    agents = [
        agent_body(name, preferences=[prefers(**{"variable": "temperature", **wish})])
        for name, wish in zip(names, wishes, strict=True)
    ]
    team = Team.of(variable_body(agents=[*names, "ghost"], **spec), *agents, hears=hears)
    team.said = {f"a{i}": Report(numbers={"temperature": value}) for i, value in said.items() if i < len(names)}
    team.settle()
    team.wait(later)
    team.settle()
    written, done, told = team.status_writes, len(team.effects), len(team.events)
    decision = team.pass_variable()
    for name in names:
        assert team.pass_agent(name).effects == ()
    assert (decision.status_reason, decision.effects, decision.events) == ("unchanged", (), ())
    assert (team.status_writes, len(team.effects), len(team.events)) == (written, done, told)


MOMENTS = st.fixed_dictionaries(
    {
        "lives": st.sampled_from([None, None, 0, 1]),
        "implying": st.booleans(),
        "hears": st.booleans(),
        "value": st.sampled_from([0.2, 0.4]),
        "befalls": st.sampled_from(["nothing", "map lost", "map restored", "pod reads", "annotation forged"]),
    }
)


@settings(deadline=None, max_examples=200)
@given(st.lists(MOMENTS, max_size=8))
def test_whatever_writes_are_lost_every_agent_ends_with_the_value_in_force(history: list[dict[str, Any]]) -> None:
    """A crash between any two writes, at any time, converges to the same end; numbers grow, and what is acknowledged is applied.

    Only a pod that reads by itself between two writes is not combined with a ConfigMap that is lost: of it nobody knows.
    """
    team = Team.of(variable_body(value=0.5), agent_body("a"))
    strangers = any(step["befalls"].startswith("map") for step in history)
    older: dict[str, Any] = {}
    generation = 0
    for step in history:
        team.variables["temperature"]["spec"]["value"] = step["value"]
        team.lives, team.implying, team.hears = step["lives"], step["implying"], step["hears"]
        match step["befalls"]:
            case "map lost":
                team.maps.clear()
            case "map restored":
                team.maps.update({key: replace(held, resource_version="99") for key, held in older.items()})
            case "pod reads" if not strangers:
                team.refresh("a-0-1")
            case "annotation forged":
                team.pods["a-0-1"] = replace(team.pods["a-0-1"], generation=2**53 - 1)
        older = dict(team.maps)
        if step["lives"] is not None:
            team.early_delivery = EarlyDelivery()  # all that an operator that dies remembers
        team.pass_variable()
        team.pass_agent("a")
        generation = max(generation, _judge(team, generation))
    team.lives, team.hears = None, True
    team.settle()
    team.wait(3)
    team.settle()
    assert team.parameters("a") == team.read["a-0-1"] == {"temperature": team.variable().status.value}
    assert team.ready()[:2] == ("True", "Converged")
    assert generation <= 2 * len(history) + 1


def _judge(team: Team, generation: int) -> int:
    """The generation that the status has, which has not shrunk; what it calls acknowledged is what the pod has applied."""
    directives = team.agent("a").status.directives
    if directives is None:
        return 0
    assert directives.generation >= generation
    [item] = directives.items
    if item.state == "Acknowledged" and team.pods["a-0-1"].generation == directives.generation:
        assert team.read["a-0-1"] == item.parameters
    return directives.generation


def test_the_bounds_of_an_open_domain_are_those_of_every_number_of_the_api() -> None:
    assert domains.bounds(Domain()) == (Decimal(repr(-MAGNITUDE)), Decimal(repr(MAGNITUDE)))
