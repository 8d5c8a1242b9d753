"""Numbers of directives: what was decided has one number, whoever dies or edits what in between."""

from dataclasses import replace

from support.builders import agent_body
from support.coordination import (
    Team,
    variable_body,
)
from support.deliveries import generation


def test_a_value_travels_to_its_agents_and_back_in_a_few_passes() -> None:
    team = Team.of(variable_body(agents=("a", "b"), value=0.5), agent_body("a"), agent_body("b"))
    assert team.settle() <= 4
    assert team.parameters("a") == team.parameters("b") == {"temperature": 0.5}
    assert team.ready() == ("True", "Converged", "2/2 applied")


def test_an_operator_that_dies_after_the_status_write_starts_no_second_generation() -> None:
    team = Team.of(variable_body(value=0.5), agent_body("a"), implying=False)
    team.pass_variable()
    team.lives = 0
    team.pass_agent("a")
    team.lives = None
    team.settle()
    assert generation(team) == 1
    assert team.ready()[:2] == ("True", "Converged")


def test_an_operator_that_dies_after_the_config_map_starts_no_second_generation() -> None:
    team = Team.of(variable_body(value=0.5), agent_body("a"))
    team.pass_variable()
    team.lives = 1
    team.pass_agent("a")
    assert (team.agent("a").status.directives, team.parameters("a")) == (None, {"temperature": 0.5})
    team.lives = None
    team.settle()
    assert generation(team) == 1
    assert team.ready()[:2] == ("True", "Converged")


def test_a_config_map_that_vanishes_before_the_status_knew_of_it_takes_no_number_along() -> None:
    team = Team.of(variable_body(value=0.5), agent_body("a"))
    team.pass_variable()
    team.pass_agent("a")
    assert (team.agent("a").status.directives, team.pods["a-0-1"].generation) == (None, 1)
    team.maps.clear()
    team.variables["temperature"]["spec"]["value"] = 0.6
    team.pass_variable()
    team.settle()
    assert generation(team) == 2
    assert team.parameters("a") == {"temperature": 0.6}


def test_a_value_that_is_taken_back_before_its_status_is_told_again() -> None:
    team = Team.of(variable_body(value=0.5), agent_body("a"))
    team.settle()
    for value in (0.6, 0.5):  # the pod applies the one, and does not look again when the other comes back
        team.variables["temperature"]["spec"]["value"] = value
        team.pass_variable()
        team.pass_agent("a")
        team.hears = False
    assert (team.read["a-0-1"], team.parameters("a")) == ({"temperature": 0.6}, {"temperature": 0.5})
    team.settle()
    assert team.ready()[1] == "Delivering"
    team.refresh("a-0-1")
    team.settle()
    assert team.ready()[1] == "Converged"


def test_what_does_not_stay_delivered_is_told_of_all_the_same() -> None:
    team = Team.of(variable_body(value=0.5), agent_body("a"), hears=False)
    team.pods.clear()
    team.settle()
    before = dict(team.maps)
    team.variables["temperature"]["spec"]["value"] = 0.6
    team.pass_variable()
    for _ in range(2):
        team.pass_agent("a")
        team.maps.update(before)
    directives = team.agent("a").status.directives
    assert directives is not None
    assert [(item.parameters["temperature"], str(item.state)) for item in directives.items] == [(0.6, "Issued")]


def test_a_forged_annotation_costs_no_number_beyond_the_next() -> None:
    team = Team.of(variable_body(value=0.5), agent_body("a"))
    team.pods["a-0-1"] = replace(team.pods["a-0-1"], generation=2**53 - 1)
    team.settle()
    assert generation(team) == 1
