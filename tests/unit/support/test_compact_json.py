"""Files that people read in differences: a flat object is one line, and nothing is lost."""

import json

import pytest

from support.compact_json import dumps

CONDITION = {"type": "Ready", "status": "False", "message": "x" * 200}


@pytest.mark.parametrize(
    "document",
    [
        None,
        1.5,
        "a\nb → c",
        [],
        {},
        {"b": 1, "a": [1, 2, {}], "c": {"d": [], "e": {}}},
        {"conditions": [CONDITION, CONDITION], "list": [[1, [2, [3, CONDITION]]]]},
        {"long": list(range(1000)), "nested": [{"values": [1, 2]}] * 50},
    ],
)
def test_parsing_the_text_gives_the_document_back_in_the_order_of_its_keys(document: object) -> None:
    assert json.dumps(json.loads(dumps(document))) == json.dumps(document)


def test_a_flat_object_is_one_line_whatever_its_length() -> None:
    assert dumps({"conditions": [CONDITION, CONDITION]}).splitlines() == [
        "{",
        '  "conditions": [',
        f"    {json.dumps(CONDITION)},",
        f"    {json.dumps(CONDITION)}",
        "  ]",
        "}",
    ]


def test_what_is_short_is_one_line_whatever_is_in_it() -> None:
    assert dumps({"a": [{"b": {"c": [1]}}]}) == '{"a": [{"b": {"c": [1]}}]}\n'
    assert dumps({"a": [{"b": {"c": [1]}}]}, width=10).count("\n") > 1
