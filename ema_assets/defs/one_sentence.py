"""How a mistake of the user's, or a refusal of the database, reads in Dagster's UI: as one sentence, no traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster._core.errors import DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo

from ema_assets.model.errors import ConfigurationError, StoreError
from ema_assets.store.driver_errors import refusal


class WrongConfiguration(DagsterUserCodeProcessError):
    """What Dagster shows as it stands: in Deployment, at a tick, and in the events of a run.

    It takes an error of this class for one that another process has serialized already. Any other it wraps, and shows
    with the frames of both.
    """

    def __init__(self, sentence: str) -> None:
        told = SerializableErrorInfo(message=sentence, stack=[], cls_name=type(self).__name__)
        super().__init__(sentence, user_code_process_error_infos=[told])  # type: ignore[no-untyped-call]


@contextmanager
def in_one_sentence(consequence: str = "") -> Iterator[None]:
    """A block in which a mistake or refusal is told to Dagster, and in a second line its `consequence`.

    Raises:
        WrongConfiguration: when one is found.
    """
    try:
        yield
    except Exception as error:
        if (sentence := sentence_of(error)) is None:
            raise
        raise WrongConfiguration(f"{sentence}\n{consequence}".rstrip()) from None


def sentence_of(error: Exception) -> str | None:
    """What `error` means to the user; None when it is a bug and keeps its traceback."""
    return str(error) if isinstance(error, ConfigurationError | StoreError) else refusal(error)
