"""The environments of the service's processes, and the settings that the launcher reads in its own."""

from collections.abc import Mapping
from pathlib import Path

from shared.environment import COMPUTATION, PYTHON, SYSTEM, select_variables
from shared.setting_names import SECRETS_DIR

_PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_PROXIES = frozenset({*_PROXY_NAMES, *(name.upper() for name in _PROXY_NAMES)})
_AUTHORITIES = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})
_SERVICE = "MASKMILL_"
# The stack makes keys of its own for the stores; tokens are for the gateway alone.
_CREDENTIALS = (
    *("MASKMILL_TOKENS", "MASKMILL_REDIS_URL", "MASKMILL_REDIS_PASSWORD"),
    *("MASKMILL_STORAGE_ACCESS_KEY", "MASKMILL_STORAGE_SECRET_KEY"),
)
# Models are downloaded and run by the worker alone; all other requests stay on loopback.
_HUB = ("HF_", "HUGGING_FACE_HUB_", "HUGGINGFACE_HUB_", "TRANSFORMERS_", "TOKENIZERS_", "SAFETENSORS_")
_DEVICE = ("TORCH", "PYTORCH_", "TRITON_", "CUDA_", "NVIDIA_", "CUBLAS_", "CUDNN_")
_COMPILER = frozenset({"CC", "CXX", "CPATH", "LIBRARY_PATH", "C_INCLUDE_PATH", "XDG_CACHE_HOME"})


def select_service_variables(environ: Mapping[str, str], module: str) -> dict[str, str]:
    """Return the environment for one module of the service: the variables that it reads."""
    names = SYSTEM | PYTHON | _AUTHORITIES
    prefixes: tuple[str, ...] = (_SERVICE, *COMPUTATION)
    if module == "worker.main":
        names, prefixes = names | _COMPILER | _PROXIES, (*prefixes, *_HUB, *_DEVICE)
    selected = select_variables(environ, names, prefixes)
    withheld = tuple(name for name in _CREDENTIALS if module != "api.wsgi" or name != "MASKMILL_TOKENS")
    return {name: value for name, value in selected.items() if not name.startswith(withheld)}


def names_proxy(environ: Mapping[str, str]) -> bool:
    """Tell whether an environment names a proxy for plain HTTP as curl reads it, which ignores HTTP_PROXY."""
    return any(environ.get(name) for name in ("http_proxy", "all_proxy", "ALL_PROXY"))


def find_setting(environ: Mapping[str, str], name: str) -> str:
    """Return a setting as a process with this environment reads it: a variable, or a file in the folder of secrets.

    It is empty if there is neither, or if the file cannot be read, which the process reports itself.
    """
    folder = environ.get(SECRETS_DIR)
    if environ.get(name) or not folder:
        return environ.get(name, "")
    try:
        found = [file for file in Path(folder).iterdir() if file.name.lower() == name.lower()]
        return found[0].read_text().strip() if found else ""
    except (OSError, UnicodeDecodeError):
        return ""
