"""Where the objects of a job lie in the bucket."""


def inbox_key(job_id: str) -> str:
    return f"inbox/{job_id}"


def result_key(job_id: str) -> str:
    return f"results/{job_id}/result.json"


def object_key(job_id: str, attempt: int, name: str) -> str:
    """Return the key of an object of one attempt: labels.png, masks.zip, overlay.png."""
    return f"results/{job_id}/{attempt}/{name}"
