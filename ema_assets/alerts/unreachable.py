"""Why a service could not be reached, in a few words and without its address. No I/O."""

import ssl
from collections.abc import Iterator


def why_unreachable(error: BaseException) -> str:
    """Return the cause of an error of `requests`, whose own text holds the address, and with it tokens.

    Libraries wrap the system's message several times: the innermost error has it.
    """
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {each.verify_message.rstrip('.')}"
        if isinstance(each, ssl.SSLError):
            return "it does not speak TLS as expected"
    if any("Timeout" in type(each).__name__ or isinstance(each, TimeoutError) for each in chain):
        return "no answer in time"
    for each in reversed(chain):
        # Errors of `requests` are OSErrors, too, and carry no message of the system.
        if isinstance(each, OSError) and each.strerror:
            return str(each.strerror)
    return "the connection was closed before the answer was complete"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
