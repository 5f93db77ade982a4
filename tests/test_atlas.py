"""The demo's world is the same everywhere, its questions have no shortcuts, and its teacher knows them."""

from __future__ import annotations

import hashlib
import inspect
import math
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kard import tasks
from kard.answers.parsing import conclusion
from kard.errors import BadConfig
from kard.knowledge.bm25 import Postings, PostingsWriter
from kard.records import LETTERS, Document, Question

atlas: Any = import_module("kard.programs.atlas")
comparisons: Any = import_module("kard.programs.atlas.comparisons")
documents: Any = import_module("kard.programs.atlas.documents")
facts: Any = import_module("kard.programs.atlas.facts")
names: Any = import_module("kard.programs.atlas.names")
attributes: Any = import_module("kard.programs.atlas.attributes")
question_module: Any = import_module("kard.programs.atlas.questions")
teacher: Any = import_module("kard.programs.atlas.teacher")
word_lists: Any = import_module("kard.programs.atlas.words")

PASSAGES, TRAIN, TEST = 1_500, 300, 120
SPLITS = ("train", "test")
KINDS = ("four options, one hop", "yes/no, one hop", "yes/no, two hops", "four options, two hops")


@cache
def pages() -> dict[str, Document]:
    """Return the pages of the world that most tests use, by key."""
    return {page.key: page for page in documents.Documents(names.Names(0), 0, PASSAGES)}


@cache
def world_questions(
    seed: int = 0, passages: int = PASSAGES, train: int = TRAIN, test: int = TEST
) -> tuple[Any, ...]:
    """Return questions with their drafts."""
    return tuple(question_module.questions(names.Names(seed), passages=passages, train=train, test=test, seed=seed))


def questions(split: str, **size: int) -> list[Question]:
    """Return the questions of a split, without their drafts."""
    return [item.question for item in world_questions(**size) if item.question.split == split]


def every_wording() -> list[Any]:
    """Return each `Wordings` of the world."""
    single = [w for a in attributes.ATTRIBUTES.values() for w in (a.ask, a.claim)]
    return [*single, *(p.ask for p in (*comparisons.YES_NO, *comparisons.FOUR_OPTIONS))]


# The world


def test_the_same_seed_gives_the_same_world_on_every_machine() -> None:
    """A change of this hash changes the questions of every demo that was ever run."""
    world = atlas.make_world(passages=700, train=40, test=20, seed=3)
    texts = [repr(document) for document in world.documents] + [repr(q) for q in world.questions]
    texts += [teacher.rationale(item, n) for item in world_questions(3, 700, 40, 20) for n in range(3)]
    texts += [repr(wordings) for wordings in every_wording()]  # 60 questions do not use all of them
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] == "58e5f5d506be1c76"


def test_another_seed_gives_another_world() -> None:
    ours = {page.title for page in documents.Documents(names.Names(0), 0, 300)}
    theirs = {page.title for page in documents.Documents(names.Names(1), 1, 300)}
    assert len(ours & theirs) < 10  # plain English names of species can coincide


def test_a_world_has_exactly_the_pages_asked_for_and_can_be_read_twice() -> None:
    world = atlas.make_world(passages=450, train=10, test=5, seed=0)
    once, again = list(world.documents), list(world.documents)
    assert len(once) == len(world.documents) == 450
    assert once == again
    assert once == list(pages().values())[:450]  # a larger world begins with the smaller one


def test_no_two_pages_have_the_same_title_or_key() -> None:
    many = list(documents.Documents(names.Names(0), 0, 10_000))
    assert len({page.title for page in many}) == len({page.key for page in many}) == 10_000


def test_species_named_after_people_have_different_names_also_where_endings_follow_an_r() -> None:
    half = len(word_lists.ANIMALS) // 2
    groups = [half * half + half * family for family in range(4_000)]  # all of one pair of animals
    species = [name for group in groups for name in names.Names(0).species(group)]
    assert len(set(species)) == len(species)


@given(
    group=st.integers(0, 800_000),
    other=st.integers(0, 800_000),
    kind=st.sampled_from(("people", "towns", "rivers", "regions", "companies", "species")),
    seed=st.integers(0, 3),
)
@settings(max_examples=400, deadline=None)
def test_two_groups_never_share_a_name(group: int, other: int, kind: str, seed: int) -> None:
    make: Callable[[int], list[str]] = getattr(names.Names(seed), kind)
    ours = make(group)
    assert len(set(ours)) == len(ours)
    assert make(group) == ours
    if group != other:
        assert not set(ours) & set(make(other))


def test_lands_refer_to_nothing_outside() -> None:
    first, second = (facts.make_land(names.Names(0), 0, number) for number in (0, 1))
    written = " ".join(page.text for page in documents.pages(second, 0))
    assert len(first.entities) == facts.SIZE
    for entity in first.entities:
        assert not contains_name(written, entity.name)


def test_namesakes_stand_side_by_side() -> None:
    people = facts.make_land(names.Names(0), 0, 0).of("person")
    group = [person.name for person in people if person.group == people[0].group]
    assert len(group) == 4
    assert len({name.split()[0] for name in group}) < 4
    assert len({name.split()[1] for name in group}) < 4


def test_pages_are_short_and_read_like_sentences() -> None:
    lengths = [len(page.text.split()) for page in pages().values()]
    assert min(lengths) >= 12
    assert max(lengths) <= 50
    assert 26 <= sum(lengths) / len(lengths) <= 36
    for page in pages().values():
        assert page.text.isascii()
        assert "{" not in page.text
        assert "  " not in page.text
        assert all(s[0].isupper() and s.endswith(".") for s in re.split(r"(?<=\.) ", page.text)), page.text


def test_of_a_million_pages_only_those_that_are_read_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    world = atlas.make_world(passages=1_000_000, train=TRAIN, test=TEST, seed=0)
    numbers: list[int] = []

    def counted(*args: Any) -> Any:
        numbers.append(args[-1])
        return facts.make_land(*args)

    monkeypatch.setattr(documents, "make_land", counted)
    start = time.process_time()
    assert len(list(islice(world.documents, 100))) == 100
    assert numbers == [0]
    assert time.process_time() - start < 1


def test_a_world_that_is_too_small_is_refused_with_advice() -> None:
    with pytest.raises(BadConfig, match=r"^500 passages are too few for 3000 train questions; ask for more"):
        atlas.make_world(passages=500, train=3_000, test=10, seed=0)
    with pytest.raises(BadConfig, match=r"200 passages are too few for 1 test questions"):
        atlas.make_world(passages=200, train=0, test=1, seed=0)


def test_a_world_ends_where_its_names_do() -> None:
    last = atlas.MOST_PASSAGES // facts.SIZE - 1
    groups = names.BASE**4  # pairs of a first and a last name's family
    assert 8 * (last + 1) <= groups
    with pytest.raises(BadConfig, match="has names for at most"):
        atlas.make_world(passages=atlas.MOST_PASSAGES + 1, train=1, test=1, seed=0)


# The questions


def test_kinds_and_answers_are_dealt_evenly_in_each_split() -> None:
    for split, shares in (("train", (180, 30, 30, 60)), ("test", (72, 12, 12, 24))):
        split_questions = questions(split)
        for kind, share in zip(KINDS, shares, strict=True):
            letters = Counter(q.answer for q in split_questions if q.kind == kind)
            assert sum(letters.values()) == share
            assert len(letters) == (2 if "yes" in kind else 4)
            assert max(letters.values()) - min(letters.values()) <= 1


@given(st.integers(0, 2_000))
@settings(deadline=None)
def test_shares_add_up(count: int) -> None:
    shares = question_module.shares(count)
    assert sum(shares.values()) == count
    assert all(abs(shares[name] - count * kind.share) < 1 for name, kind in question_module.KINDS.items())


def test_every_question_is_asked_once() -> None:
    for what in ("text", "key"):
        assert len({getattr(item.question, what) for item in world_questions()}) == TRAIN + TEST
    abouts = Counter((item.question.split, item.draft.about) for item in world_questions())
    assert set(abouts.values()) == {1}


def test_training_and_evaluation_share_no_wording() -> None:
    train = {text for w in every_wording() for text in w.train}
    test = {text for w in every_wording() for text in w.test}
    shape = re.compile(r"\{\w\}")
    assert not {shape.sub("_", text) for text in train} & {shape.sub("_", text) for text in test}
    # A wording that matches the other split's questions would be shared however it is written.
    for split, wordings, others in (("train", train, test), ("test", test, train)):
        for question in questions(split):
            assert any(matches_wording(w, question.text) for w in wordings), question.text
            assert not [w for w in others if matches_wording(w, question.text)], question.text


def matches_wording(wording: str, text: str) -> bool:
    """Return whether the text is this wording, with up to four words in each gap."""
    gap = r"(?:the |a )?[\w']+(?: [\w']+){0,2}"
    pattern = gap.join(map(re.escape, re.split(r"\{\w\}", wording)))
    return re.fullmatch(pattern, text, re.I) is not None


def contains_name(text: str, name: str) -> bool:
    """Return whether the text contains the name as whole words."""
    return re.search(rf"(?<![\w']){re.escape(name)}(?![\w'])", text, re.I) is not None


def test_no_subject_of_one_split_occurs_in_the_other() -> None:
    for split in SPLITS:
        subjects = {name for item in world_questions() if item.question.split == split for name in item.draft.needs}
        assert subjects
        written: list[str] = []
        for item in world_questions():
            if item.question.split != split:
                q, draft = item.question, item.draft
                written += [q.text, *q.options, *q.facts, *draft.reasons, *draft.mistakes]
                written += [f"{pages()[key].title} {pages()[key].text}" for key in q.evidence]
        spoken = {phrase for text in written for phrase in phrases(text)}
        assert {name.lower() for name in subjects} & spoken == set()
        assert max(len(name.split()) for name in subjects) <= 4  # else `phrases` would not hold them


def phrases(text: str) -> set[str]:
    """Return every run of one to four words of the text."""
    words = re.findall(r"[\w']+", text.lower())
    return {" ".join(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1)}


def parsed_fact(fact: str) -> tuple[Any, list[str]]:
    """Return the attribute and the values that a sentence states."""
    for attribute in attributes.ATTRIBUTES.values():
        if f" {attribute.verb} " in fact:
            rest = fact.partition(f" {attribute.verb} ")[2].removesuffix(".")
            bare = attribute.item.format(v="")
            return attribute, [value.removeprefix(bare) for value in re.split(r", | and ", rest)]
    raise AssertionError(f"no attribute has a verb of: {fact}")


def test_the_evidence_states_the_facts() -> None:
    for item in world_questions():
        q = item.question
        assert len(q.evidence) == len(q.facts) == (2 if "two" in q.kind else 1)
        for name, key, fact in zip(item.draft.needs, q.evidence, q.facts, strict=True):
            page = pages()[key]
            attribute, values = parsed_fact(fact)
            assert page.title.lower() == name.lower()
            assert contains_name(fact, name)
            assert contains_name(q.text, name)
            assert any(form.format(v=attribute.listed(values)) in page.text for form in attribute.pages), fact


def test_the_facts_give_the_answer_and_no_other() -> None:
    for item in world_questions():
        q = item.question
        values = [parsed_fact(fact)[1] for fact in q.facts]
        common = set(values[0]).intersection(*values)
        if q.kind == "four options, two hops":
            assert q.gold == " and ".join(value for (value,) in values)
            assert len(set(q.options)) == 4
        elif q.kind == "four options, one hop":
            assert q.gold in common
            assert [option for option in q.options if option in common] == [q.gold], q
            assert len(set(q.options)) == 4
        elif q.kind == "yes/no, two hops":
            assert q.options == ("yes", "no")
            assert q.gold == ("yes" if common else "no"), q
        else:
            attribute = parsed_fact(q.facts[0])[0]
            claimed = [value for value in values[0] if contains_name(q.text, attribute.item.format(v=value))]
            assert q.options == ("yes", "no")
            assert q.gold == ("yes" if claimed else "no"), q


def test_a_reader_of_one_page_of_two_is_left_with_two_options() -> None:
    for item in world_questions():
        q = item.question
        if q.kind == "four options, two hops":
            (ours,), (theirs,) = (parsed_fact(fact)[1] for fact in q.facts)
            halves = [tuple(option.split(" and ")) for option in q.options]
            assert sum(first == ours for first, _ in halves) == 2
            assert sum(second == theirs for _, second in halves) == 2
            assert len({first for first, _ in halves} | {second for _, second in halves}) == 4


def test_bm25_finds_what_is_needed_but_not_always_first(tmp_path: Path) -> None:
    """Needed pages are among the first 100 of nearly every question, among the first 2 of about two in three."""
    keys = list(pages())
    writer = PostingsWriter(tmp_path)
    writer.add((i, pages()[key].title, pages()[key].text) for i, key in enumerate(keys))
    writer.commit()
    writer.close()
    postings = Postings(tmp_path)
    for kind in KINDS:
        worst: list[int] = []
        for q in (item.question for item in world_questions() if item.question.kind == kind):
            query = postings.query(q.text, 0.05)
            assert query is not None
            hits = [keys[rowid] for rowid, _ in postings.top(query, 100)]
            worst.append(max(hits.index(key) + 1 if key in hits else 101 for key in q.evidence))
        assert sum(rank <= 100 for rank in worst) >= 0.98 * len(worst), kind
        assert 0.5 <= sum(rank <= 2 for rank in worst) / len(worst) <= 0.88, kind


# Shortcuts that a student could take without reading


def bigrams(text: str) -> Counter[str]:
    return Counter(text.lower()[i : i + 2] for i in range(len(text) - 1))


def alike(a: str, b: str) -> float:
    ours, theirs = bigrams(a), bigrams(b)
    return sum((ours & theirs).values()) / math.sqrt(sum(ours.values()) * sum(theirs.values()))


def learned(train: Sequence[tuple[str, bool]]) -> Callable[[str], float]:
    """Return a score of texts: how likely their letters are in right answers (naive Bayes over bigrams)."""
    right, wrong = Counter[str](), Counter[str]()
    for text, is_right in train:
        (right if is_right else wrong).update(bigrams(text))
    n, m = sum(right.values()) + 500, sum(wrong.values()) + 500
    return lambda text: sum(math.log((right[b] + 1) / n) - math.log((wrong[b] + 1) / m) for b in bigrams(text))


def by_chance(hits: float, count: int, chance: float) -> bool:
    """Return whether the hits are within four standard errors of guessing."""
    return abs(hits / count - chance) <= 4 * math.sqrt(chance * (1 - chance) / count)


@pytest.fixture(scope="module")
def plenty() -> list[list[Question]]:
    """Return the questions of three larger worlds."""
    return [[o.question for o in world_questions(s, 2_400, 500, 240)] for s in (0, 1, 2)]


def test_options_alone_do_not_beat_chance(plenty: list[list[Question]]) -> None:
    hits: dict[str, float] = defaultdict(float)
    count = tested = 0
    for world in plenty:
        four = [q for q in world if len(q.options) == 4]
        often = Counter(option for q in four for option in q.options)
        sounds = learned([(o, o == q.gold) for q in four if q.split == "train" for o in q.options])
        for q in four:
            count += 1
            tested += q.split == "test"
            scores: dict[str, list[float]] = {
                "the longest": [len(o) for o in q.options],
                "the shortest": [-len(o) for o in q.options],
                "the most frequent": [often[o] for o in q.options],
                "the rarest": [-often[o] for o in q.options],
                "the likest to the question": [alike(o, q.text) for o in q.options],
                "the likest to the others": [sum(alike(o, p) for p in q.options) for o in q.options],
                "the odd one": [-sum(alike(o, p) for p in q.options) for o in q.options],
            }
            if q.split == "test":
                scores["the one that sounds right"] = [sounds(o) for o in q.options]
            for name, values in scores.items():
                best = [i for i, value in enumerate(values) if value == max(values)]
                hits[name] += (LETTERS.index(q.answer or "") in best) / len(best)
    for name, right in hits.items():
        assert by_chance(right, tested if "sounds" in name else count, 0.25), name


def test_the_letters_of_a_claim_do_not_tell_yes_from_no(plenty: list[list[Question]]) -> None:
    right = count = 0
    for world in plenty:
        claims = [q for q in world if len(q.options) == 2]
        sounds = learned([(q.text, q.answer == "A") for q in claims if q.split == "train"])
        for q in claims:
            if q.split == "test":
                count += 1
                right += (sounds(q.text) > 0) == (q.answer == "A")
    assert by_chance(right, count, 0.5)


def subject_of(item: Any) -> tuple[str, ...]:
    """Return what a question asks for, without the entities."""
    return item.draft.about[1:-2] if "two" in item.question.kind else item.draft.about[1:-1]


def test_the_attribute_does_not_tell_the_letter_of_the_answer() -> None:
    for kind in KINDS:
        right = count = 0
        for seed in (0, 1, 2):
            items = [item for item in world_questions(seed, 2_400, 500, 240) if item.question.kind == kind]
            letters: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
            for item in items:
                if item.question.split == "train":
                    letters[subject_of(item)][item.question.answer] += 1
            for item in items:
                if item.question.split == "test":
                    count += 1
                    usual = letters[subject_of(item)].most_common(1)
                    right += bool(usual) and usual[0][0] == item.question.answer
        assert by_chance(right, count, 0.5 if "yes" in kind else 0.25), kind


# The teacher


def test_every_right_rationale_concludes_on_the_gold_answer_and_no_mistake_does() -> None:
    for item in world_questions():
        q = item.question
        assert len(item.draft.reasons) >= 4
        for text in item.draft.reasons:
            assert conclusion(text, q.options) == q.answer, text
            assert 7 <= len(text.split()) <= 32, text
            assert text[0].isupper()
        for text in item.draft.mistakes:
            assert conclusion(text, q.options) != q.answer, text


def test_rationales_state_facts_in_the_words_of_pages() -> None:
    for item in world_questions():
        if item.question.kind == "four options, one hop":
            attribute, values = parsed_fact(item.question.facts[0])
            forms = [
                f"{attribute.verb} {attribute.listed(values)}",
                *(p.format(v=attribute.listed(values)) for p in attribute.pages),
            ]
            for text in item.draft.reasons:
                assert any(form in text for form in forms), text


def test_about_three_rationales_of_a_hundred_are_refused() -> None:
    accepted = [
        conclusion(teacher.rationale(item, n), item.question.options) == item.question.answer
        for item in world_questions()
        for n in range(5)
    ]
    assert 0.955 <= sum(accepted) / len(accepted) <= 0.985


def ask(engine: Any, question: Question) -> str:
    """Return the rationale that DSPy reads from the engine's reply."""
    lm = dspy.LM("atlas-oracle", engine=engine, cache=False, num_retries=0)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        options = "\n".join(f"({x}) {o}" for x, o in zip(LETTERS, question.options, strict=False))
        prediction = dspy.Predict(atlas.TASK.teach)(question=question.text, options=options, answer=question.gold)
        usage = lm.history[-1]["usage"]
    assert usage["prompt_tokens"] > 10
    assert usage["completion_tokens"] >= len(prediction.rationale.split())
    return prediction.rationale


def test_the_teacher_speaks_through_dspy_and_is_the_same_twice() -> None:
    size = {"passages": 600, "train": 8, "test": 4, "seed": 0}
    first, second = (atlas.make_world(**size) for _ in range(2))
    for q in first.questions:
        ours, theirs = ([ask(world.teacher, q) for _ in range(3)] for world in (first, second))
        assert ours == theirs
        assert len(set(ours)) >= 2
        assert q.key in {item.key for item in second.questions}


def test_the_teacher_knows_its_questions_only() -> None:
    world = atlas.make_world(passages=600, train=4, test=2, seed=0)
    question = world.questions[0]
    for text in ("Who was Alexander?", "", question.text.lower(), question.text + " Please."):
        with pytest.raises(dspy.utils.exceptions.LMInvalidRequestError, match="knows nothing of the question"):
            ask(world.teacher, replace(question, text=text))


def test_the_teacher_answers_the_last_question_and_none_of_the_examples() -> None:
    world = atlas.make_world(passages=600, train=4, test=2, seed=0)
    first, second = world.questions[:2]
    lm15 = dspy.lm15

    def user(question: Question) -> Any:
        return lm15.Message.user(f"[[ ## question ## ]]\n{question.text}\n\n[[ ## options ## ]]\nyes")

    messages = (user(first), lm15.Message.assistant("[[ ## rationale ## ]]\nBecause."), user(second))
    reply = world.teacher.complete(lm15.Request(model="atlas-oracle", messages=messages)).message.text
    texts = next(o for o in world_questions(0, 600, 4, 2) if o.question == second).draft
    assert any(text in reply for text in (*texts.reasons, *texts.mistakes))


def test_threads_share_a_teacher_and_get_each_rationale_once() -> None:
    world = atlas.make_world(passages=600, train=4, test=2, seed=0)
    item = next(o for o in world_questions(0, 600, 4, 2))
    lm15 = dspy.lm15
    request = lm15.Request(
        model="atlas-oracle", messages=(lm15.Message.user(f"[[ ## question ## ]]\n{item.question.text}\n"),)
    )
    replies: list[str] = []
    threads = [
        threading.Thread(target=lambda: replies.append(world.teacher.complete(request).message.text))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = Counter(teacher.rationale(item, n) for n in range(8))
    assert Counter(reply.split("\n")[1] for reply in replies) == expected


# The task


def test_the_task_is_the_demo_and_names_its_world() -> None:
    task = tasks.load(tasks.demo())
    assert task.name == "atlas"
    assert task.world is atlas.make_world
    assert task.settings.retrieval.k == task.settings.student_training.k == 2


def test_questions_survive_being_exported_and_read_again() -> None:
    for question in questions("test"):
        row = {
            "id": question.key,
            "split": question.split,
            "question": question.text,
            "options": list(question.options),
            "answer": question.answer,
            "facts": list(question.facts),
            "evidence": list(question.evidence),
        }
        assert atlas.parse(row) == replace(question, kind="")


def test_the_example_in_the_docstring_is_of_the_demo() -> None:
    shown = " ".join((inspect.getdoc(atlas) or "").split())
    world = world_questions(0, 5_200, 300, 120)
    item = next(o for o in world if o.question.evidence == ("trata-dixer",) and o.question.text in shown)
    page = next(p for p in documents.Documents(names.Names(0), 0, 5_200) if p.key == "trata-dixer")
    options = " ".join(f"({x}) {o}" for x, o in zip(LETTERS, item.question.options, strict=False))
    assert f"{page.title}: {page.text}" in shown
    assert f"{item.question.text} {options} {teacher.rationale(item, 0)}" in shown
