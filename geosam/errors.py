"""What can be wrong with a request: every error a user can mend is a :class:`GeosamError`.

The message is one sentence that says what is wrong, where, the rule, and what to do. The command
line prints it alone and exits with status 2.
"""


class GeosamWarning(UserWarning):
    """Something was assumed, or happens, that the user should know of."""


class GeosamError(Exception):
    """The request or its input is wrong, and the message says how to mend it."""


class InputError(GeosamError):
    """A scene, mask or vector file cannot be read or used."""


class BandError(InputError):
    """The bands a step needs are not in the scene."""


class PromptError(GeosamError):
    """Prompts cannot be made or used."""


class ModelError(GeosamError):
    """A model cannot be loaded, or cannot do what is asked of it."""


class TrainingError(GeosamError):
    """A training cannot go on."""


class OptionError(GeosamError):
    """An option has a value outside its rule."""


class OutputError(GeosamError):
    """A result cannot be written where it was asked for."""


class DiskFullError(OutputError):
    """There is no space left for a result."""


class WorkerError(GeosamError):
    """Worker processes cannot go on."""


def is_gpu_full(error: BaseException) -> bool:
    """Return whether an error is torch's of a GPU without room: by its name, so that nobody need load
    torch to ask.
    """
    return type(error).__name__ == "OutOfMemoryError"
