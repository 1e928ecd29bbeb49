"""The faults of the service."""

from shared.errors.root import WorkerFault


class OutOfMemory(WorkerFault):
    code = "out_of_memory"


class DecoderLost(WorkerFault):
    code = "decoder_lost"


class EngineFailed(WorkerFault):
    code = "engine_failed"


class RenderingFailed(WorkerFault):
    code = "rendering_failed"


class InputMissing(WorkerFault):
    code = "input_missing"


class ResultOverwritten(WorkerFault):
    """Another file was stored in the place of one of the result."""

    code = "result_overwritten"


class AttemptsExhausted(WorkerFault):
    code = "attempts_exhausted"


class ModelUnusable(WorkerFault):
    code = "model_unusable"


class UnusableStores(WorkerFault):
    """This process must not use the stores that it is configured with."""


class LayoutMismatch(UnusableStores):
    code = "layout_mismatch"


class FeatureMissing(UnusableStores):
    code = "feature_missing"


class ForeignStack(UnusableStores):
    code = "foreign_stack"
