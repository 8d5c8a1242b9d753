"""The worker that evaluates CEL: C++ that was young when this was written, so it runs where a crash costs one answer.

What an expression may say is in docs/functions.md: standard CEL with the extensions math, strings and bindings, the lists'
`sum`, `min` and `max` of Kubernetes, and arithmetic across kinds of numbers. Every number that is handed over is a double, so
that `value / 2` does not change its meaning when a 1.5 becomes a 2.
"""

import datetime as dt
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, Final

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_math, ext_strings

from mabeam.evaluation.worker_main import Evaluate, InvalidFunction, confine, serve

# Beyond what the library takes at rest; a full question and three hundred agents' pairs need half of it.
MEMORY_BYTES: Final = 96 * 1024 * 1024
# An environment takes 300 KB, which an expression in it keeps; the expression itself takes a few.
MAX_ENVIRONMENTS: Final = 16
MAX_COMPILED: Final = 64
# As many pairs are looked at in one evaluation: half of what the library lets one iterate.
MAX_PAIRS: Final = 5_000
# Up to here every whole double is exactly one integer.
MAX_WHOLE: Final = 2**53

T = cel.Type
_NUMBERS: Final = {"double": T.DOUBLE, "int64": T.INT, "uint64": T.UINT}


def _divided(left: float, right: float) -> float:
    """As IEEE 754 has it: the answer is then refused for not being finite."""
    if right == 0:
        return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1, right)
    return left / right


def _remainder(left: float, right: float) -> float:
    if right == 0:
        raise ValueError("modulus by zero")
    return math.fmod(left, right)


# The operators of CEL, the prefix of their overloads' names, how they go with doubles, and what else they take: the
# library's own overloads have to be declared again with ours. Those without an implementation are its own.
_ARITHMETIC: Final[Mapping[str, tuple[str, Callable[[float, float], float], Mapping[str, tuple[Any, Any, Any]]]]] = {
    "_+_": (
        "add",
        operator.add,
        {
            "add_bytes": (T.BYTES, T.BYTES, T.BYTES),
            "add_string": (T.STRING, T.STRING, T.STRING),
            "add_list": (T.LIST, T.LIST, T.LIST),
            "add_duration_duration": (T.DURATION, T.DURATION, T.DURATION),
            "add_duration_timestamp": (T.DURATION, T.TIMESTAMP, T.TIMESTAMP),
            "add_timestamp_duration": (T.TIMESTAMP, T.DURATION, T.TIMESTAMP),
        },
    ),
    "_-_": (
        "subtract",
        operator.sub,
        {
            "subtract_duration_duration": (T.DURATION, T.DURATION, T.DURATION),
            "subtract_timestamp_duration": (T.TIMESTAMP, T.DURATION, T.TIMESTAMP),
            "subtract_timestamp_timestamp": (T.TIMESTAMP, T.TIMESTAMP, T.DURATION),
        },
    ),
    "_*_": ("multiply", operator.mul, {}),
    "_/_": ("divide", _divided, {}),
    "_%_": ("modulo", _remainder, {}),
}
# Compared across kinds at run time, but refused by the checker where it knows both kinds: `1 < 2.5`.
_COMPARED: Final = {"_<_": "less", "_<=_": "less_equals", "_>_": "greater", "_>=_": "greater_equals"}
_OF_LISTS: Final[Mapping[str, Callable[[list[float]], float]]] = {"sum": math.fsum, "min": min, "max": max}


def _declared() -> list[Any]:
    found = []
    for name, (prefix, compute, others) in _ARITHMETIC.items():
        mixed = partial(_mixed, compute)
        overloads = [cel.Overload(id_, result, [left, right]) for id_, (left, right, result) in others.items()]
        for kind, number in _NUMBERS.items():
            # CEL knows no remainder of doubles.
            ours = mixed if (name, kind) == ("_%_", "double") else None
            overloads.append(cel.Overload(f"{prefix}_{kind}", number, [number, number], impl=ours))
        for kind in ("int64", "uint64"):
            number = _NUMBERS[kind]
            overloads.append(cel.Overload(f"{prefix}_double_{kind}", T.DOUBLE, [T.DOUBLE, number], impl=mixed))
            overloads.append(cel.Overload(f"{prefix}_{kind}_double", T.DOUBLE, [number, T.DOUBLE], impl=mixed))
        found.append(cel.FunctionDecl(name, overloads))
    for name, prefix in _COMPARED.items():
        found.append(cel.FunctionDecl(name, [cel.Overload(f"{prefix}_dyn", T.BOOL, [T.DYN, T.DYN])]))
    for name, of_list in _OF_LISTS.items():
        overload = cel.Overload(f"list_{name}", T.DYN, [T.LIST], is_member=True, impl=partial(_of_list, name, of_list))
        found.append(cel.FunctionDecl(name, [overload]))
    return found


def _mixed(compute: Callable[[float, float], float], left: float, right: float) -> float:
    return compute(float(left), float(right))


def _of_list(name: str, compute: Callable[[list[float]], float], items: list[Any]) -> float:
    numbers = [float(item) for item in items if isinstance(item, int | float) and not isinstance(item, bool)]
    if len(numbers) < len(items):
        raise ValueError(f"{name}() is for lists of numbers")
    if not numbers and name != "sum":
        raise ValueError(f"{name}() of an empty list")
    return float(compute(numbers))


_EXCLUDED: Final = "".join(f'    - name: "{name}"\n' for name in (*_ARITHMETIC, *_COMPARED))
_CONFIG: Final = f"stdlib:\n  exclude_functions:\n{_EXCLUDED}"


@lru_cache(maxsize=MAX_ENVIRONMENTS)
def _environment(names: tuple[str, ...]) -> Any:
    return cel.NewEnv(
        config=cel.NewEnvConfigFromYaml(_CONFIG),
        variables=dict.fromkeys(names, T.DYN),
        extensions=[ext_math.ExtMath(), ext_strings.ExtStrings(), ext_bindings.ExtBindings()],
        functions=_declared(),
    )


@lru_cache(maxsize=MAX_COMPILED)
def _compiled(text: str, names: tuple[str, ...]) -> tuple[Any, Any]:
    try:
        environment = _environment(names)
        return environment, environment.compile(text)
    except (RuntimeError, ValueError, TypeError) as problem:
        raise InvalidFunction(_in_short(str(problem))) from None


def _in_short(problem: str) -> str:
    """CEL's words without the picture of the expression below them."""
    lines = dict.fromkeys(line for line in problem.splitlines() if not line.lstrip().startswith("|"))
    text = re.sub(r"\s*\[[A-Z_]+\]$", "", "; ".join(lines))
    return re.sub(r"(?:^[A-Z_]+: )?(?:ERROR: )?<input>:(\d+:\d+): ", r"at \1: ", re.sub(r"^[A-Z_]+: ", "", text))


# --- what goes in, what comes out ---------------------------------------------------------------------------------------------


def _plain(found: Any) -> Any:
    kind = found.type()
    if kind == T.ERROR:
        raise InvalidFunction(_in_short(found.plain_value()))
    return _jsonable(found.plain_value())


def _jsonable(value: Any) -> Any:
    """The value as JSON has it; a whole double comes back as the integer that it most likely was."""
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            if not math.isfinite(value):
                raise InvalidFunction(f"the result is not a finite number: {value}")
            return int(value) if value.is_integer() and abs(value) <= MAX_WHOLE else value
        case list():
            return [_jsonable(item) for item in value]
        case dict():
            for key in value:
                if not isinstance(key, str):
                    raise InvalidFunction(f"the keys of a map must be strings, not {type(key).__name__}")
            return {key: _jsonable(item) for key, item in value.items()}
        case _:
            kind = _NOT_JSON.get(type(value), type(value).__name__)
            raise InvalidFunction(f"the result must be JSON: a number, string, bool, list or map, not {kind}")


_NOT_JSON: Final = {
    bytearray: "bytes",
    dt.timedelta: "a duration",
    dt.datetime: "a timestamp",
    cel.Type: "a type",
}


def _evaluated(environment: Any, expression: Any, data: dict[str, Any]) -> Any:
    try:
        return _plain(expression.eval(environment.Activation(data)))
    except RuntimeError as problem:
        if isinstance(problem, RecursionError):
            raise
        raise InvalidFunction(_in_short(str(problem))) from None


def _value(text: str, inputs: dict[str, Any]) -> Any:
    return _evaluated(*_compiled(text, tuple(sorted(inputs))), inputs)


def _edges(text: str, inputs: dict[str, Any]) -> list[list[int]]:
    """For each agent the places in the list of those to which the expression is true; names would be thirty times as long."""
    agents = inputs["agents"]
    pair = _compiled(
        text, tuple(sorted({*inputs, "from", "to"}))
    )  # first by itself: what is wrong with it, is wrong here
    found = []
    rows = max(1, MAX_PAIRS // max(1, len(agents)))
    for first in range(0, len(agents), rows):
        some = agents[first : first + rows]
        for answers in _rows(text, inputs, some) or _pair_by_pair(pair, inputs, some):
            found.append([place for place, holds in enumerate(answers) if holds])
    return found


def _rows(text: str, inputs: dict[str, Any], some: list[Any]) -> list[list[bool]] | None:
    """For each of some agents, to which of all it has an edge: in one evaluation, at a tenth of the price of one for each pair.

    None when it cannot be done so: an expression that iterates itself may need the bound on iterations for each pair, and an
    error may be about an agent and itself, which is no pair.
    """
    wrapped = f"some.map(from, agents.map(to, ({text}\n)))"
    try:
        answers: list[list[bool]] = _evaluated(
            *_compiled(wrapped, tuple(sorted({*inputs, "some"}))), {**inputs, "some": some}
        )
    except InvalidFunction:
        return None
    if not all(isinstance(holds, bool) for row in answers for holds in row):
        return None
    for one, row in zip(some, answers, strict=True):
        row[next(n for n, other in enumerate(inputs["agents"]) if other is one)] = False
    return answers


def _pair_by_pair(pair: tuple[Any, Any], inputs: dict[str, Any], some: list[Any]) -> Iterator[list[bool]]:
    for one in some:
        yield [other is not one and _holds(pair, {**inputs, "from": one, "to": other}) for other in inputs["agents"]]


def _holds(pair: tuple[Any, Any], data: dict[str, Any]) -> bool:
    holds = _evaluated(*pair, data)
    if not isinstance(holds, bool):
        raise InvalidFunction(f"an edge is there or not: the result must be true or false, not {holds!r}")
    return holds


_LANGUAGES: Final[Mapping[str, Callable[[str, dict[str, Any]], Any]]] = {"cel": _value, "cel-edges": _edges}


def _evaluate(question: dict[str, Any]) -> Any:
    return _LANGUAGES[question["language"]](question["text"], question["inputs"])


def _prepare() -> Evaluate:
    _value("value * 2.0 <= 1.0", {"value": 0.4})  # what the library loads late is loaded before the doors are closed
    confine(MEMORY_BYTES)
    return _evaluate


def main(_: list[str]) -> None:
    """Answer until the operator closes the pipe."""
    serve(_prepare, parse_int=float)
