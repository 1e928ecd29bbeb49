"""The cost of a job in the fair order of its queue.

A queue is ordered by start-time fair queuing (Goyal, Vin and Cheng, 1996).  A job starts, in virtual time, when the job
that was claimed last has started, or when the last unfinished job of its own tenant ends, whichever is later; it ends
its cost later.  The job with the earliest start is claimed first.  So each tenant with waiting jobs gets the same share
of the work, the first job of another tenant waits for none of a long backlog, and the jobs of one tenant run in the
order of their creation.  shared/jobs/scripts/create.lua and claim.lua keep the times.
"""

from typing import Final

from shared.jobs.model import ImageFacts

# An image of this many pixels takes a host and the post-processing as long as the model takes for any image.
PIXELS_PER_COST: Final = 10_000_000


def compute_cost(image: ImageFacts | None) -> float:
    """Return the cost of a job: 1 for the model, and more for large images, if the image was read already."""
    return 1 if image is None else 1 + image.width * image.height / PIXELS_PER_COST
