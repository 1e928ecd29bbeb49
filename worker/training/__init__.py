"""The training recipe of the embedded model; see its card, worker/embedded_model/README.md.

In no container image, needs the extra `train`.  Only tests import it; it must not import the gateway or the pipeline.
"""
