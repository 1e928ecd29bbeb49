"""Everything that can go wrong, as one tree.

* MaskmillError
  x ClientError            the caller can put it right
    - EmptyBody            nothing was sent
    - UnreadableBody       neither an image, nor JSON, nor base64, nor a form
    - NotAnImage           the bytes are no image of a format that is read here
    - TruncatedImage       the image stops before its end
    - BodyTooLarge         more bytes than the service takes
    - ImageTooLarge        more pixels than the service takes
    - UnknownParameter     a parameter that does not exist
    - BadParameter         a value that is out of range or of the wrong type
    - Unauthorized         no token, or one that is not known
    - UnknownJob           no such job, it has expired, or it belongs to somebody else
    - UnknownModel         no worker serves this model
    - UnknownMask          the job has no segment of that number
    - UnknownRoute         no such address
    - WrongMethod          the address is right, the verb is not
    - NotFinished          the result was asked for before there was one
    - AlreadyEnded         the job ended before it could be canceled
    - Canceled             the job was canceled, so it has no result
    - IdempotencyConflict  an idempotency key was used again for something else
  x Unavailable            try again later
    - QueueFull            admission control said no
    - StoreUnavailable     Redis did not answer
    - StorageUnavailable   the object store did not answer
    - ModelNotReady        the model is known, but no worker is ready for it
    - DeadlineExceeded       there was no result before the deadline
  x WorkerFault            ours to put right
    - OutOfMemory          the image did not fit on the device, even alone
    - EngineFailed         the model broke on this image
    - InputMissing         a job names bytes that are not stored
    - AttemptsExhausted    every worker that took the job was lost
    - ModelUnusable        the model could not be loaded

Which HTTP status each one becomes is said once, in api/errors.py.
"""


class MaskmillError(Exception):
    """Root of the tree; `code` is part of the public API and never changes.

    `details` are facts that a caller's program may want beside the sentence, such as the state of a job.
    """

    code = "internal"

    def __init__(self, message: str = "", **details: str | int | float) -> None:
        super().__init__(message)
        self.details = details


class ClientError(MaskmillError):
    """The caller can put it right."""


class EmptyBody(ClientError):
    code = "empty_body"


class UnreadableBody(ClientError):
    code = "unreadable_body"


class NotAnImage(ClientError):
    code = "not_an_image"


class TruncatedImage(ClientError):
    code = "truncated_image"


class BodyTooLarge(ClientError):
    code = "body_too_large"


class ImageTooLarge(ClientError):
    code = "image_too_large"


class UnknownParameter(ClientError):
    code = "unknown_parameter"


class BadParameter(ClientError):
    code = "bad_parameter"


class Unauthorized(ClientError):
    code = "unauthorized"


class UnknownJob(ClientError):
    code = "unknown_job"


class UnknownModel(ClientError):
    code = "unknown_model"


class UnknownMask(ClientError):
    code = "unknown_mask"


class UnknownRoute(ClientError):
    code = "unknown_route"


class WrongMethod(ClientError):
    code = "wrong_method"


class NotFinished(ClientError):
    code = "not_finished"


class AlreadyEnded(ClientError):
    code = "already_ended"


class Canceled(ClientError):
    code = "canceled"


class IdempotencyConflict(ClientError):
    code = "idempotency_conflict"


class Unavailable(MaskmillError):
    """Try again later."""


class QueueFull(Unavailable):
    code = "queue_full"


class StoreUnavailable(Unavailable):
    code = "store_unavailable"


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"


class ModelNotReady(Unavailable):
    code = "model_not_ready"


class DeadlineExceeded(Unavailable):
    code = "deadline_passed"


class WorkerFault(MaskmillError):
    """Ours to put right."""


class OutOfMemory(WorkerFault):
    code = "out_of_memory"


class EngineFailed(WorkerFault):
    code = "engine_failed"


class InputMissing(WorkerFault):
    code = "input_missing"


class AttemptsExhausted(WorkerFault):
    code = "attempts_exhausted"


class ModelUnusable(WorkerFault):
    code = "model_unusable"


def build_error(code: str, message: str) -> MaskmillError:
    """Turn a code that was recorded by another process back into the error it stands for.

    A code that this version does not know becomes the root of the tree.
    """
    return _BY_CODE.get(code, MaskmillError)(message)


def _with_descendants(kind: type[MaskmillError]) -> list[type[MaskmillError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in _with_descendants(child))]


_BY_CODE = {kind.code: kind for kind in _with_descendants(MaskmillError) if "code" in vars(kind)}
