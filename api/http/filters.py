"""The filters of calls about many jobs, and lists of ids, from a query."""

from collections.abc import Mapping, Sequence

from api.jobs.listing import MAX_IDS, JobFilter, MetadataFilter
from api.quoting import quote
from api.schemas.listing import METADATA_PREFIX, CancelQuery, FilterQuery
from shared.errors import BadParameter


def parse_filter(query: FilterQuery, arguments: Mapping[str, str]) -> JobFilter:
    """Return the filter of a query; `arguments` are its parameters as they were sent.

    Raises:
        BadParameter: there are filters of two members of metadata, or one without a name.
    """
    return JobFilter(
        query.state,
        query.model,
        query.created_after,
        query.created_before,
        query.error_type,
        _parse_metadata(arguments),
    )


def parse_cancellation(query: CancelQuery, arguments: Mapping[str, str]) -> JobFilter:
    """Return the filter of a bulk cancellation.

    Raises:
        BadParameter: as parse_filter(); or it has no filter and not `all`, or both.
    """
    wanted = parse_filter(query, arguments)
    if wanted.is_empty != query.all:
        raise BadParameter("Say which jobs to cancel: by at least one filter, or all of them, by all=true alone.")
    return wanted


def _parse_metadata(arguments: Mapping[str, str]) -> MetadataFilter | None:
    names = [name for name in arguments if name.startswith(METADATA_PREFIX)]
    if len(names) > 1:
        raise BadParameter("Jobs are filtered by one member of their metadata at most.")
    if not names:
        return None
    name = names[0].removeprefix(METADATA_PREFIX)
    if not name:
        raise BadParameter("A filter of metadata names a member, as in metadata.customer=7.")
    return MetadataFilter(name, arguments[names[0]])


def parse_ids(text: str, arguments: Mapping[str, str]) -> Sequence[str]:
    """Return the ids of `?ids=`, which is the only parameter.

    Raises:
        BadParameter: it is not, or there are too many ids, or none.
    """
    for name in arguments:
        if name != "ids":
            raise BadParameter(f"{quote(name)} has no effect beside ids; send one of the two.")
    ids = [one for part in text.split(",") if (one := part.strip())]
    if not 1 <= len(ids) <= MAX_IDS:
        raise BadParameter(f"ids has 1 to {MAX_IDS} ids, separated by commas; these are {len(ids)}.")
    return ids
