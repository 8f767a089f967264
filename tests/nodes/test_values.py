from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("expression", "values", "expected"),
    [
        ("a + b", {"a": 1, "b": 2.5}, (3.5, 3, True)),
        ("2 ** 10 - 7 // 2 % 2", {"a": 0}, (1023.0, 1023, True)),
        ("sum(values) / len2 if a else -1", {"a": 0, "len2": 1}, (-1.0, -1, True)),
        ("1 < a <= 3 and not b", {"a": 3, "b": 0}, (1.0, 1, True)),
        ("max(values[0], round(2.6)) << 1", {"a": 1}, (6.0, 6, True)),
    ],
)
def test_math(run, expression: str, values: dict[str, float], expected: tuple[float, int, bool]) -> None:
    assert tuple(run("ComfyMathExpression", expression=expression, values=values)) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "empty"),
        ("1 +", "cannot be read"),
        ("x + 1", 'there is no "x" here'),
        ("__import__('os')", "no such function"),
        ("().__class__", "Attribute is not arithmetic"),
        ("[i for i in values]", "ListComp is not arithmetic"),
        ("(lambda: 1)()", "no such function"),
        ("'a' * 9", "'a' is not a number"),
        ("values * 2", "list cannot be calculated with"),
        ("9 ** 9999", "exponent 9999 is too large"),
        ("1 << 99999", "shift by 99999 is too far"),
        ("1e308 * 10", "too large"),
        ("1" * 3000, "3000 characters"),
        ("(" * 300 + "1" + ")" * 300, "cannot be read"),
    ],
)
def test_math_refuses_what_is_not_arithmetic(run, expression: str, message: str) -> None:
    with pytest.raises(ValueError, match="(?s)" + message):
        run("ComfyMathExpression", expression=expression, values={"a": 1})


def test_switch_asks_only_for_the_chosen_side(core) -> None:
    switch = core.NODE_CLASS_MAPPINGS["ComfySwitchNode"]
    assert switch.check_lazy_status(switch=True, on_true=None, on_false=None) == ["on_true"]
    assert switch.check_lazy_status(switch=False, on_true=None, on_false=None) == ["on_false"]
    assert switch.check_lazy_status(switch=False, on_true=None, on_false="x") == []
    assert switch.execute(switch=True, on_true="a", on_false=None).result == ("a",)


def test_regexes(run) -> None:
    flags = {"case_insensitive": True, "multiline": False, "dotall": False}
    text, pattern = "Aa b12 c3", r"([a-c])(\d+)"
    found = {
        mode: run("RegexExtract", string=text, regex_pattern=pattern, mode=mode, group_index=2, **flags)[0]
        for mode in ("First Match", "All Matches", "First Group", "All Groups")
    }
    assert found == {"First Match": "b12", "All Matches": "b\nc", "First Group": "12", "All Groups": "12\n3"}
    assert run("RegexMatch", string=text, regex_pattern="(", **flags) == [False]
    assert run("RegexReplace", string=text, regex_pattern=r"\d+", replace="#", count=1) == ["Aa b# c3"]


def test_numbers(run) -> None:
    assert run("ComfyNumberConvert", value=" 12345678901234567890 ") == [1.2345678901234567e19, 12345678901234567890]
    assert run("ComfyNumberConvert", value=True) == [1.0, 1]
    with pytest.raises(ValueError, match='"x" is not a finite number'):
        run("ComfyNumberConvert", value="x")
    assert run("ColorToRGBInt", color="#FF800080") == [0xFF8000, "#FF8000", 128 / 255]


def test_anything_as_text(run) -> None:
    assert run("PreviewAny", source={"a": ["é"]}) == ['{\n    "a": [\n        "é"\n    ]\n}']
    assert run("PreviewAny", source=None) == ["None"]
    assert run("PreviewAny", source=object) == ["<class 'object'>"]
