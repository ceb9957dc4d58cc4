"""Templates: what a prompt holds, how a user replaces one, and what is refused in which words."""

from dataclasses import replace

import pytest

from grm_jax.text.messages import Example, Message
from grm_jax.text.prompts import NO_PRINCIPLES, SECTIONS, load_templates, render, render_meta

BUILT_IN = load_templates()
PAIR = Example("What is 37+48?", ["85", "84"], label=0)


def text_of(example, template=BUILT_IN.grm, **settings) -> str:
    (turn,) = render(example, template, **settings)
    assert turn.role == "user"
    return turn.content


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_grm_prompt_has_the_papers_structure(n):
    example = Example("What is 37+48?", [f"answer {i}" for i in range(n)])
    lines = text_of(example).splitlines()
    headings = [line for line in lines if line.startswith("####")]
    assert headings == [
        "#### Evaluation Criteria ####",
        "#### Conversation Context ####",
        "#### Responses to be Scored ####",
        "#### Output Format Requirements ####",
    ]
    blocks = lines[lines.index(headings[2]) + 1 : lines.index(headings[3]) - 1]
    assert blocks == [
        line
        for i in range(1, n + 1)
        for line in (
            f"[The Begin of Response {i}]", f"answer {i - 1}", f"[The End of Response {i}]",
        )
    ]  # fmt: skip
    formats = [line.split(":")[0] for line in lines[-3:]]
    assert formats == ["Specific Criteria", "Analysis", "Scores"]
    assert "\\boxed{" + ", ".join("x" * n) + "}" in lines[-1]
    assert "{" not in "".join(lines).replace("\\boxed{", "")


def test_every_turn_of_a_conversation_is_shown_in_order():
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "a1"},
        {"role": "user", "content": "q2"},
    ]
    shown = "[User Turn]\nBe brief.\n\nq1\n[Assistant Turn]\na1\n[User Turn]\nq2\n"
    assert shown in text_of(Example(turns, ["a"]))


def test_the_responses_are_shown_in_the_order_of_the_example():
    swapped = text_of(PAIR.permuted([1, 0]))
    assert swapped == text_of(Example("What is 37+48?", ["84", "85"]))
    assert swapped != text_of(PAIR)


def test_a_single_response_is_scored_with_zero_or_one():
    single = BUILT_IN.single
    assert (single.low, single.high) == (0, 1)
    prompt = text_of(Example("q", ["a"]), single)
    assert "from 1 to 10" not in prompt
    assert prompt.splitlines()[-1].endswith(r"\boxed{x}>")
    with pytest.raises(ValueError, match="scores one response with 0 or 1, and there are 2"):
        render(PAIR, single)


def test_the_scale_of_the_grm_is_one_to_ten():
    assert (BUILT_IN.grm.low, BUILT_IN.grm.high) == (1, 10)
    assert "integers from 1 to 10" in text_of(PAIR)


def test_given_principles_are_shown_where_the_row_has_them():
    example = Example("q", ["a", "b"], principles="Accuracy (100%)")
    for template in (BUILT_IN.grm, BUILT_IN.judge, BUILT_IN.meta):
        assert "#### Given Criteria ####" in text_of(example, template)
        assert "Accuracy (100%)" in text_of(example, template)
        assert "Given Criteria" not in text_of(PAIR, template)


def test_a_reference_is_shown_only_where_asked_for():
    example = Example("q", ["a", "b"], reference="the truth")
    assert "the truth" not in text_of(example)
    assert "#### Reference Answer ####" in text_of(example, reference=True)
    assert "the truth" in text_of(example, reference=True)
    assert text_of(PAIR, reference=True) == text_of(PAIR)


def test_a_hint_names_the_best_response_and_its_strength():
    hinted = text_of(PAIR, hint=True)
    assert "Response 1 is the best" in hinted
    assert "Response 2 is the best" in text_of(PAIR.permuted([1, 0]), hint=True)
    assert "rated the difference" not in hinted
    strong = Example("q", ["a", "b"], label=1, strength=3)
    assert "people rated the difference at 3." in text_of(strong, hint=True)
    right = Example("q", ["a"], label=1)
    assert "score of this response is 1" in text_of(right, BUILT_IN.single, hint=True)
    assert "is the best" not in text_of(PAIR)


def test_a_hint_that_cannot_be_given_is_refused():
    with pytest.raises(ValueError, match="a hint needs the label"):
        render(Example("q", ["a", "b"]), BUILT_IN.grm, hint=True)
    with pytest.raises(ValueError, match="use the template `single`"):
        render(Example("q", ["a"], label=1), BUILT_IN.grm, hint=True)


def test_what_is_not_shown_leaves_no_trace():
    full = Example("q", ["a", "b"], label=0, principles="p", reference="r")
    for template in (BUILT_IN.grm, BUILT_IN.judge):
        assert "\n\n\n" not in text_of(PAIR, template)
        assert "\n\n\n" not in text_of(full, template, hint=True, reference=True)


def test_the_judge_is_asked_for_a_number():
    assert "from 1 to 2" in text_of(PAIR, BUILT_IN.judge).splitlines()[-1]


def test_the_meta_rm_sees_the_judgment_as_the_models_turn():
    request, answer = render_meta(PAIR, BUILT_IN.meta, "Analysis: fine")
    assert (request.role, answer) == ("user", Message("assistant", "Analysis: fine"))
    assert "85" in request.content


def test_fields_in_untrusted_text_are_text():
    example = Example("{responses} {n}", ["{conversation}", "\\boxed{x} {0} {} {i}"])
    prompt = text_of(example)
    assert "\n{responses} {n}\n" in prompt
    assert "\n{conversation}\n" in prompt
    assert "\n\\boxed{x} {0} {} {i}\n" in prompt


def test_empty_responses_keep_their_block():
    assert "[The Begin of Response 2]\n\n[The End of Response 2]" in text_of(
        Example("q", ["a", ""])
    )


def test_a_users_file_replaces_one_template(tmp_path):
    file = tmp_path / "grm.txt"
    file.write_text(
        "\ufeffScore {n}.\r\n{conversation}\r\n---\r\n{responses}\r\nEnd with \\boxed{x}.\n"
    )
    templates = load_templates(file)
    assert text_of(PAIR, templates.grm).splitlines() == [
        "Score 2.",
        "[User Turn]",
        "What is 37+48?",
        "---",
        "[The Begin of Response 1]",
        "85",
        "[The End of Response 1]",
        "[The Begin of Response 2]",
        "84",
        "[The End of Response 2]",
        "End with \\boxed{x}.",
    ]
    assert templates.single == BUILT_IN.single
    assert load_templates(tmp_path).grm == templates.grm


def test_a_users_blocks_are_shared_by_all_tasks(tmp_path):
    (tmp_path / "blocks.txt").write_text(
        "=== response ===\n<{i}>\n{response}\n\n=== turn ===\n{content}\n"
    )
    (tmp_path / "meta.txt").write_text("{conversation}\n{responses}\n")
    templates = load_templates(tmp_path)
    assert text_of(PAIR, templates.meta) == "What is 37+48?\n<1>\n85\n<2>\n84"
    assert "\n<1>\n85\n<2>\n84\n" in text_of(PAIR, templates.grm)
    assert templates.single.sections["hint"] == BUILT_IN.single.sections["hint"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("grm.txt", "{conversation}", r"section prompt: the field \{responses\} is missing"),
        ("grm.txt", "{conversation} {responses} {critique}",
         r"unknown field \{critique\}; the fields there are \{conversation\}, \{responses\}"),
        ("grm.txt", "{conversation}{responses}\n=== respons ===\n{response}",
         "unknown section 'respons'; there are prompt, turn"),
        ("grm.txt", "{conversation}{responses}\n=== prompt ===\nx", "section prompt comes twice"),
        ("blocks.txt", "=== turn ===\n{text}", r"blocks.txt, section turn: unknown field \{text\}"),
        ("single.txt", "=== scale ===\n5", "'5' is not the lowest and the highest score"),
        ("single.txt", "=== scale ===\n1 0", "such as 1 10"),
        ("singel.txt", "x", "name it one of blocks.txt, grm.txt, single.txt, judge.txt, meta.txt"),
    ],
)  # fmt: skip
def test_a_users_mistakes_are_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        load_templates(tmp_path)


def test_what_is_no_template_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no template file or folder at"):
        load_templates(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no template"):
        load_templates(tmp_path)
    (tmp_path / "grm.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="save it as UTF-8"):
        load_templates(tmp_path)


@pytest.mark.parametrize("field", ["principles", "hint", "reference"])
def test_a_template_without_a_place_for_what_is_to_be_shown_is_refused(tmp_path, field):
    (tmp_path / "grm.txt").write_text("{conversation}\n{responses}\n")
    template = load_templates(tmp_path).grm
    example = Example("q", ["a", "b"], label=0, **({field: "x"} if field != "hint" else {}))
    settings = {} if field == "principles" else {field: True}
    with pytest.raises(ValueError, match=rf"has no field {{{field}}} in its prompt"):
        render(example, template, **settings)


@pytest.mark.parametrize("field", ["reference", "principles"])
def test_what_a_template_cannot_leave_out_must_be_given(tmp_path, field):
    (tmp_path / "grm.txt").write_text(f"By {{{field}}}:\n{{conversation}}\n{{responses}}")
    templates = load_templates(tmp_path)
    with pytest.raises(ValueError, match=f"no {field} is given"):
        templates.ask("grm", PAIR, training=False, reference=True)
    given = replace(PAIR, **{field: "this"})
    (turn,) = templates.ask("grm", given, training=False, reference=True)
    assert "this:" in turn.content


def test_every_section_has_a_built_in_text():
    for template in (BUILT_IN.grm, BUILT_IN.single, BUILT_IN.judge, BUILT_IN.meta):
        assert set(template.sections) == set(SECTIONS)


@pytest.mark.parametrize("task", ["grm", "single", "judge"])
def test_the_templates_without_principles_ask_for_none_and_for_all_else(task):
    example = Example("2+2?", ["4"] if task == "single" else ["4", "5"], label=0)
    with_them, without = (
        render(example, getattr(load_templates(path), task), hint=task == "single")[0].content
        for path in (None, NO_PRINCIPLES)
    )
    assert "Specific Criteria:" in with_them
    assert "Specific Criteria" not in without
    assert "further criteria" not in without
    result = "Choice:" if task == "judge" else "Scores:"
    for line in ("Analysis:", result, "#### Evaluation Criteria ####", "\\boxed{"):
        assert line in without


@pytest.mark.parametrize(
    ("answer_format", "label"),
    [
        ("Scores: <the scores, in one box such as {box}>", "Scores"),
        ("Analysis: <why>\n**Overall Score:** \\boxed{x}", "Overall Score"),
        ("Scores:\n$$\n{box}\n$$", "Scores"),
        ("End with \\boxed{x}.", ""),
        ("Scores: numbers from {low} to {high}", ""),
    ],
)
def test_the_label_of_the_result_is_read_off_the_answer_format(tmp_path, answer_format, label):
    (tmp_path / "grm.txt").write_text(f"{{conversation}}\n{{responses}}\n\n{answer_format}\n")
    assert load_templates(tmp_path).grm.label == label


def test_the_labels_of_the_built_in_templates():
    for templates in (BUILT_IN, load_templates(NO_PRINCIPLES)):
        labels = [template.label for template in (templates.grm, templates.single, templates.judge)]
        assert labels == ["Scores", "Scores", "Choice"]
