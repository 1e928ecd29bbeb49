"""The environments of child processes, selected by the names that they use: a credential can have any other name."""

from collections.abc import Collection, Mapping

# What a program in any language reads.
SYSTEM = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH"),
    }
)
# Of the interpreter: some by name, because a prefix would allow names of other programs.
PYTHON = frozenset(
    {
        *("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONNOUSERSITE", "PYTHONPYCACHEPREFIX"),
        *("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONOPTIMIZE"),
        *("PYTHONHASHSEED", "PYTHONUTF8", "PYTHONFAULTHANDLER", "PYTHONMALLOC", "VIRTUAL_ENV"),
    }
)
# Threads and memory of the libraries that compute.
COMPUTATION = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "MALLOC_", "GLIBC_TUNABLES")


def select_variables(
    environ: Mapping[str, str], names: Collection[str], prefixes: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the variables with these names, and those whose names begin with one of the prefixes."""
    return {name: value for name, value in environ.items() if name in names or name.startswith(prefixes)}
