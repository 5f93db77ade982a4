"""Passages of about a hundred words: nothing lost, borders where a reader would put them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kard.knowledge.splitting import split

pieces = st.sampled_from(
    [
        "word",
        "Word",
        "end.",
        "Really?",
        '"Quoted."',
        "(1)",
        "e.g.",
        " ",
        "  ",
        "\t",
        "\n",
        "\n\n",
        "\n \n",
        "\n- ",
        "\xa0",
    ]
)
texts = st.lists(pieces, max_size=400).map(" ".join) | st.lists(pieces, max_size=60).map("".join) | st.text()


@settings(deadline=None, max_examples=150)
@given(text=texts, words=st.integers(1, 40))
def test_no_word_is_lost_repeated_or_moved(text: str, words: int) -> None:
    passages = split(text, words)
    assert " ".join(passages).split() == text.split()
    assert all(p and p == p.strip() for p in passages)


@settings(deadline=None, max_examples=150)
@given(text=texts, words=st.integers(1, 40))
def test_a_text_of_at_most_one_and_a_half_times_the_words_stays_whole_and_a_longer_one_does_not(
    text: str, words: int
) -> None:
    count = len(text.split())
    passages = split(text, words)
    if count <= int(1.5 * words):
        assert passages == ([text.strip()] if count else [])
    elif count >= 2 * words:
        assert len(passages) > 1


@settings(deadline=None, max_examples=150)
@given(text=texts, words=st.integers(4, 40))
def test_no_passage_is_longer_than_a_sentence_over_the_limit(text: str, words: int) -> None:
    # Greedy joining may overshoot by less than what a last, too short rest would have been.
    assert all(len(p.split()) <= 2 * words for p in split(text, words))


def sentences(count: int, words: int) -> str:
    return " ".join(f"S{i} " + "so " * (words - 2) + "on." for i in range(count))


def test_passages_end_where_sentences_end() -> None:
    passages = split(sentences(40, 10), 100)
    assert len(passages) == 4
    assert all(p.startswith("S") and p.endswith("on.") for p in passages)


def test_a_paragraph_border_wins_over_a_fuller_passage() -> None:
    first, second = sentences(8, 10), sentences(12, 10)
    assert split(f"{first}\n\n{second}", 100) == [first, second]


def test_a_short_rest_joins_the_passage_before_it() -> None:
    text = f"{sentences(20, 10)} And that was all."
    passages = split(text, 100)
    assert [len(p.split()) for p in passages] == [100, 104]


def test_a_text_without_any_sentence_is_cut_into_equal_runs() -> None:
    assert [len(p.split()) for p in split("word " * 400, 100)] == [100, 100, 100, 100]


def test_abbreviations_and_decimals_inside_a_sentence_do_not_end_it() -> None:
    sentence = "It weighs 3.5 kg, i.e. little, " + "and so on " * 20 + "here."
    assert all(p.endswith("here.") for p in split(" ".join([sentence] * 6), 100))
