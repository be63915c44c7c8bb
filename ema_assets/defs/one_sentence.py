"""Errors of users and refusals of the database as Dagster's UI shows them: one sentence, without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster._core.errors import DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo

from ema_assets.model.errors import ConfigurationError, StoreError
from ema_assets.store.driver_errors import refusal


class WrongConfiguration(DagsterUserCodeProcessError):
    """An error that Dagster shows unchanged: in Deployment, at a tick, and in the events of a run.

    Dagster treats an error of this class as one that another process has already serialized. It wraps any other error
    and shows the frames of both.
    """

    def __init__(self, sentence: str) -> None:
        told = SerializableErrorInfo(message=sentence, stack=[], cls_name=type(self).__name__)
        super().__init__(sentence, user_code_process_error_infos=[told])  # type: ignore[no-untyped-call]

    @classmethod
    def sentence_in(cls, text: str) -> str | None:
        """Return the sentence of such an error in `text`, as a process reports it with the name of its class."""
        name = f"{cls.__name__}: "
        return text.removeprefix(name) if text.startswith(name) else None


@contextmanager
def in_one_sentence(consequence: str = "") -> Iterator[None]:
    """Report a configuration error or refusal in the block to Dagster, with its `consequence` in a second line.

    Raises:
        WrongConfiguration: when there is one.
    """
    try:
        yield
    except Exception as error:
        if (sentence := sentence_of(error)) is None:
            raise
        raise WrongConfiguration(f"{sentence}\n{consequence}".rstrip()) from None


def sentence_of(error: Exception) -> str | None:
    """Return what `error` means to the user; None when it is a bug and keeps its traceback."""
    return str(error) if isinstance(error, ConfigurationError | StoreError) else refusal(error)
