"""The errors that a user can correct.

Every message is one line that names the problem, its place and the next command.

    KardError                 shown by the command line as `Error: ...`, exit code 1
    ├── BadConfig             a setting out of its range
    ├── BadInput              a file that cannot be read as what it should be
    ├── NoTask                no task of that name, or a file that is not one
    ├── NoStore               the store is missing or is not one
    ├── Missing               a step needs the results of another one first
    ├── NoBase                a base model that is not available or does not match its hash
    ├── NoExtra               an optional dependency that is not installed
    ├── TeacherFailed         the teacher cannot be reached or refuses
    ├── EndpointFailed        a server that generates for students cannot be reached or refuses
    ├── WorkersFailed         processes or a cluster that cannot be reached, or are lost again and again
    └── BudgetReached         the teacher's next call could exceed --max-cost
"""


class KardError(Exception):
    """Base of the errors that are shown to the user in one line."""


class BadConfig(KardError):
    """A setting out of its range."""


class BadInput(KardError):
    """A file, or a row of one, that is not as it should be. `at` gives its place as `file:line`."""

    def __init__(self, problem: str, *, at: str = "") -> None:
        super().__init__(f"{at}: {problem}" if at else problem)


class NoTask(KardError):
    """No task of that name, or a file that does not define one."""


class NoStore(KardError):
    """The store is missing, or is not a kard store."""


class Missing(KardError):
    """A step needs the results of another one first; the message names its command."""


class NoBase(KardError):
    """A base model that is not available, or whose bytes do not match their hash."""


class NoExtra(KardError):
    """An optional dependency is not installed; the message is the command that installs it."""


class TeacherFailed(KardError):
    """The teacher cannot be reached, or refuses the request."""


class EndpointFailed(KardError):
    """A server that generates for students cannot be reached, or refuses the request."""


class WorkersFailed(KardError):
    """Workers cannot be reached, or were lost too often."""


class BudgetReached(KardError):
    """The next call to the model could cost more than is left of --max-cost."""
