"""Why a request gets no answer, in the shape in which OpenAI's clients read it."""

from typing import Any

TYPES = {429: "rate_limit_error"}
TOO_DEEP = "the body has too many brackets within each other"


class Refused(Exception):
    """A request that gets no answer, or an answer that ends early.

    Attributes:
      status: the status code of HTTP.
      message: one line for whoever asked.
      param: the field that is wrong; None if it is no single field.
      code: a word for programs; None for none.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    def body(self) -> dict[str, Any]:
        """The body of the response."""
        usual = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": TYPES.get(self.status, usual),
                "param": self.param,
                "code": self.code,
            }
        }


def wrong(param: str, fault: str, code: str | None = None) -> Refused:
    """A refusal of a request with a field that cannot be used."""
    return Refused(400, f"{param}: {fault}", param, code)
