"""What can go wrong and is the user's to mend.

Every message is one line that names the problem, the place and the next command.

    KardError                 shown by the command line as `Error: ...`, exit code 1
    ├── BadConfig             a setting out of its range
    ├── BadInput              a file that cannot be read as what it should be
    ├── NoTask                no task of that name, or a file that is not one
    ├── NoStore               the store is missing or is not one
    ├── Missing               a step lacks what an earlier step makes
    ├── NoBase                a base model that cannot be had or does not match its hash
    ├── NoExtra               an optional dependency that is not installed
    ├── TeacherFailed         the teacher cannot be reached or refuses
    └── BudgetReached         the teacher's next call could pass --max-cost
"""


class KardError(Exception):
    """Base of everything that is shown to the user in one line."""


class BadConfig(KardError):
    """A setting out of its range."""


class BadInput(KardError):
    """A file, or a row of one, that is not what it should be.

    `at` gives the place as `file:line`, so that an editor can jump to it.
    """

    def __init__(self, problem: str, *, at: str = "") -> None:
        super().__init__(f"{at}: {problem}" if at else problem)


class NoTask(KardError):
    """No task of that name, or a file that does not define one."""


class NoStore(KardError):
    """The store is missing, or is not a kard store."""


class Missing(KardError):
    """A step lacks what an earlier step makes; the message names the command that makes it."""


class NoBase(KardError):
    """A base model that cannot be had, or whose bytes do not match their hash."""


class NoExtra(KardError):
    """An optional dependency is not installed; the message is the command that installs it."""


class TeacherFailed(KardError):
    """The teacher cannot be reached, or refuses the request."""


class BudgetReached(KardError):
    """The next call to the model could cost more than --max-cost leaves."""
