"""MedQA-USMLE: questions of the United States medical licensing examination, with four (or five) options.

A row of the published JSON lines (the rows of the hub have the same fields):

    {"question": "A 31-year-old baker has had itchy, watery eyes at work for two months. Which of the following
      cells releases the mediator behind his symptoms?", "answer": "Mast cell",
     "options": {"A": "Neutrophil", "B": "Mast cell", "C": "Fibroblast", "D": "Osteoclast"},
     "meta_info": "step1", "answer_idx": "B"}

The hub's other rows, with options as [{"key": "A", "value": "Neutrophil"}, ...], and rows in the plain form {id,
question, options, answer, facts, evidence}, with the answer's letter, are read too.
"""

from __future__ import annotations

from kard.config import Retrieval, StudentTraining, TaskSettings
from kard.files import Row
from kard.records import Question
from kard.tasks import Task

from ._common import MEDICAL_ENCODERS, STUDENTS, Answer, RetrieveThenAnswer, Teach, plain, shot


class TeachMedicine(Teach):
    """Explain why the given answer to the question of a medical examination is right.

    Name the findings that matter, what they mean and the medical facts that lead to the answer; say in few words
    why the likeliest other option is wrong.
    End with one sentence that states the answer: "Therefore, the answer is (B) ...".
    """


class AnswerMedicine(Answer):
    """Reason from the findings, and from the passages where some are given, then choose one option."""


def parse(row: Row) -> Question | None:
    """Return the question of a row: published, from the hub or in the plain form. Raises ValueError."""
    return plain(row)


# The paper's explanations begin by naming the reference, which makes the teacher write like it.
REFERENCE = "We refer to Wikipedia articles on medicine for help."

SHOTS = (
    shot(
        "A 24-year-old woman has had a butterfly-shaped rash over both cheeks, aching wrists and protein in her "
        "urine for three months. Which antibody is the most specific for her disease?",
        ("Anti-centromere", "Anti-double-stranded DNA", "Anti-mitochondrial", "Rheumatoid factor"),
        "B",
        f"{REFERENCE} A rash over the cheeks, arthritis and kidney disease in a young woman suggest systemic lupus "
        "erythematosus. Antibodies against double-stranded DNA are highly specific for lupus and rise with kidney "
        "disease. Anti-centromere antibodies belong to limited scleroderma, anti-mitochondrial ones to primary "
        "biliary cholangitis, and rheumatoid factor is not specific.",
    ),
    shot(
        "A 58-year-old man who takes a drug for high blood pressure has had a dry cough for five weeks. His lungs "
        "are clear. Which drug is the most likely cause?",
        ("Amlodipine", "Hydrochlorothiazide", "Lisinopril", "Losartan"),
        "C",
        f"{REFERENCE} Lisinopril inhibits the angiotensin-converting enzyme, which also breaks down bradykinin. "
        "Bradykinin gathers in the airways and causes a dry cough in about one patient in ten. Losartan blocks the "
        "angiotensin receptor, leaves bradykinin alone and rarely causes a cough.",
    ),
    shot(
        "A vegan of 41 years has numb feet, an unsteady walk in the dark and large red blood cells. "
        "Which vitamin does he lack?",
        ("Vitamin A", "Vitamin B12", "Vitamin C", "Vitamin K"),
        "B",
        f"{REFERENCE} Vitamin B12 is found almost only in foods from animals, so vegans who take no supplement "
        "lack it. The lack causes macrocytic anaemia and degeneration of the dorsal columns, with numbness and an "
        "unsteady walk when the eyes cannot help.",
    ),
)

TASK = Task(
    name="medqa",
    about="Questions of the US medical licensing examination, four options (MedQA-USMLE).",
    parse=parse,
    teach=TeachMedicine,
    answer=AnswerMedicine,
    program=RetrieveThenAnswer,
    shots=SHOTS,
    students=STUDENTS,
    encoders=MEDICAL_ENCODERS,
    # A query an option, by the figures of like data (see openbookqa.py); vignettes have not been measured.
    # A vignette with its options has 250 tokens and more than 600 at times; three passages come on top.
    settings=TaskSettings(retrieval=Retrieval(query="options"), student=StudentTraining(max_length=1536)),
)
