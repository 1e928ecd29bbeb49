"""Every error of the service, as one tree.

* MaskmillError
  x ClientError            the client can correct the request
    - EmptyBody            the request has no body
    - UnreadableBody       the body is neither an image, nor JSON, nor base64, nor a form
    - UnsupportedCoding    the body is compressed in a way that the service does not accept
    - NotAnImage           the bytes are not an image of a supported format
    - TruncatedImage       the image file stops before its end
    - BodyTooLarge         the body has more bytes than the service accepts
    - MetadataTooLarge     the caller's own data of a job have more bytes than the service accepts
    - RequestTimeout       the client sent the request too slowly
    - ImageTooLarge        the image has more pixels, or needs more memory, than the service accepts
    - ImageTooCostly       the image takes more time to decode than the service accepts
    - ImageTooNarrow       one side of the image is too short for the model
    x Unrepresentable      a format cannot hold this result; it is omitted from a job, whose other files are made
      - TooManyCorners     the segments have more corners than polygons are made of
    - UnknownParameter     a parameter that does not exist
    - BadParameter         a value that is out of range or of the wrong type
    - Unauthorized         no token, an unknown one, or one that has expired
    - MissingScope         the token may not do this
    - NotPermitted         the token may not use this model, or this priority
    - UnknownHost          the request names the service by a name that is not its own
    - ForeignOrigin        a web page that may not call the service
    - BadPrefix            the proxy in front sent a prefix that cannot begin a path
    - UnknownJob           no such job, it has expired, or it belongs to another tenant
    - UnknownModel         no worker serves this model
    - Gone                 something of a job that is known is not stored any more
      - ImageGone          the image, from which a file would be rendered, is not kept any more
      - RecutGone          the logits of the job are not kept (any more)
    - UnknownMask          the job has no segment of that number
    - UnknownWebhook       no such webhook, or it belongs to another tenant
    - UnknownDelivery      the webhook has no such delivery, or it is not kept any more
    - UnknownRoute         no such path
    - WrongMethod          the path exists, but does not allow this method
    - NotFinished          the result was requested before the job ended
    - AlreadyEnded         the job ended before it could be canceled
    - TooManyWebhooks      the tenant has as many webhooks as it may
    - WebhookDisabled      the webhook gets no messages until it is enabled
    - Canceled             the job was canceled, so it has no result
    - JobExpired           the job did not end before its deadline, so it has no result
    - ClientIdTaken        the caller's own id names a job that was submitted otherwise
    - RecutUnsupported     the model keeps no logits
    - ThresholdBelowFloor  the threshold of a recut is below the scores of the queries that were kept
    - AllQueriesNeeded     a semantic recut of a job that did not keep every query
    - IdempotencyConflict  an idempotency key was reused for a different request
    - ForbiddenInput       an image is named in a way, or at a place, that this service does not use
    - InputNotFound        no object is stored at the place that was named
    - UnknownUpload        no file was uploaded under this id, or it has expired
    - ForbiddenUrl         a URL of a kind that this service does not use
    - UrlRefused           a URL leads to an address that this service does not connect to
    - UrlUnreachable       the server of a URL did not answer as it must
    - UrlTooLarge          a URL has more bytes than the service accepts
  x Unavailable            try again later
    x Overloaded           a limit of load is reached, so new work is refused
      - QueueFull          too many jobs are queued
      - QuotaExceeded      a quota of the tenant is used up
        - TooManyRequests  the tenant sends too many requests a second
      - TooManyWaiting     too many requests wait for their results
      - TooManyStreams     too many event streams are open
      - WaitTooLong        there is more work ahead than a caller may wait for
      - UploadsFull        the gateway holds as many bytes of uploads as it may
      - PayloadsFull       too many bytes of images of synchronous requests are stored
      - StoreFull          Redis has too little memory left
    - StoreUnavailable     Redis did not answer
    - StorageUnavailable   the object store did not answer
    x ModelNotReady        the model is known, but no worker is ready for it
      - EngineLost           the process that ran the model ended while it worked on the image
    - RendererUnavailable  no renderer was free to make a file in time
    - StackUnconfirmed     it is not known yet whether another stack uses the stores
    - WrongStores          the gateway must not use the stores that it is configured with
    - GatewayStopping      the gateway stops, and the request could not be answered within its grace period
    - SharedJobEnded       the job that the request shared with an identical one has no result
    - SharedMemoryFull     the worker had no shared memory free for the image
    - DutyLeaseLost        another steward runs a duty that this one has begun
    - DecodersBusy         the worker had no memory free, or no process, to decode the image
    - UrlsBusy             the worker waits for as many slow servers of URLs as it may
    - DeadlineExceeded     there was no result before the deadline
  x WorkerFault            a fault of the service
    - OutOfMemory          the image did not fit on the device, even alone
    - DecoderLost          the processes that decoded the image were killed by the system
    - EngineFailed         the model failed on this image
    - RenderingFailed      a format of the result could not be written
    - InputMissing         a job names bytes that are not stored
    - ResultOverwritten    another file is stored in the place of one of the result
    - AttemptsExhausted    workers were lost with the job too often, or gave it back too often
    - ModelUnusable        the model could not be loaded
    x UnusableStores       this process must not use the stores that it is configured with
      - LayoutMismatch     a store holds data of another version's layout
      - FeatureMissing     the object store lacks a feature that the service relies on
      - ForeignStack       a store is in use by another stack

Each branch has a file of its own.  An error carries the response headers that belong to it; its HTTP status is in one
table, in api/errors.py.
"""

from shared.errors.client import *  # noqa: F403
from shared.errors.codes import build_error as build_error
from shared.errors.faults import *  # noqa: F403
from shared.errors.root import *  # noqa: F403
from shared.errors.unavailable import *  # noqa: F403
