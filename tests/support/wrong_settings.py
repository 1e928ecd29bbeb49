"""Three wrong values for each setting, and the settings for which there is none.

`{folder}` stands for a folder that exists, with a file `text` that is neither a certificate nor a list of tokens.
"""

from collections.abc import Mapping
from typing import Final

from shared.setting_names import NAMES

Values = tuple[str, str, str]

# What every reader of numbers refuses, below and above each range.
_COUNTS: Final[Values] = ("-1", "many", "1" * 30)
_SECONDS: Final[Values] = ("-0.5", "nan", "inf")
_CHOICES: Final[Values] = ("yes please", "AUTO ON", "1")

SECRET: Final = "s3cr3t"

_OWN: Final[Mapping[str, Values]] = {
    "REDIS_URL": ("localhost:6379", f"redis://:{SECRET}/x@host:6379/0", "redis://ho st:6379/0"),
    "REDIS_CA_FILE": ("/absent.pem", "{folder}", "{folder}/text"),
    "REDIS_CERT_FILE": ("/absent.pem", "{folder}", "{folder}/text"),
    "REDIS_KEY_FILE": ("/absent.pem", "{folder}", "{folder}/text"),
    "REDIS_PREFIX": ("two words", "name:", "n" * 65),
    "STORAGE_ENDPOINT": ("s3.example:9000", "http://s3 .example", f"http://me:{SECRET}@s3.example"),
    "STORAGE_PUBLIC_ENDPOINT": ("s3.example:9000", "http://s3 .example", f"http://me:{SECRET}@s3.example"),
    "SIGNED_URL_SECONDS": ("0", "1h", "604801"),
    "RENDER_WAIT_SECONDS": ("0", "61", "nan"),
    "STORAGE_BUCKET": ("Photos_2026", "ab", "s3://photos"),
    "STORAGE_REGION": ("us east 1", "eu/west", "r" * 65),
    "STORAGE_ACCESS_KEY": ("AK IA", "AKIA/1", "k" * 129),
    "STORAGE_SECRET_KEY": (f"{SECRET} {SECRET}", f'"{SECRET}"', f"{SECRET}\u00fc"),
    "STORAGE_PREFIX": ("a//b", "../other", "inbox"),
    "STORAGE_PROXY": ("proxy.example:3128", f"socks5://me:{SECRET}@proxy", f"http://me:{SECRET}@proxy:99999"),
    "STORAGE_RETRIES": ("-1", "2.5", "1000000"),
    "URL_INPUTS": _CHOICES,
    "UPLOAD_TTL_SECONDS": ("0", "604801", "a day"),
    "MAX_URL_REDIRECTS": ("-1", "many", "1" * 30),
    "INPUT_BUCKETS": ("Photos_2026", "s3://photos", "photos/2026"),
    "OUTGOING_ALLOWED": ("http://images.internal", "10.0.0.1/8", "images.internal:8080"),
    "MODEL": ("https://huggingface.co/facebook/mask2former", "s3://models", "two words"),
    "MAX_IMAGE_SIDE": ("0", "1e6", "1000001"),
    "MAX_ATTEMPTS": ("0", "three", "1" * 30),
    "MAX_RETRIES": ("0", "many", "1" * 30),
    "MAX_PENDING_WEBHOOKS": ("0", "many", "1" * 30),
    "MAX_WEBHOOKS": ("0", "many", "1" * 30),
    "WEBHOOK_HTTP": _CHOICES,
    "WEBHOOK_URLS": _CHOICES,
    "WEBHOOK_THREADS": ("0", "many", "1" * 30),
    "PUBLIC_URL": ("masks.example", "ftp://masks.example", f"https://me:{SECRET}@masks.example"),
    "LOG_FORMAT": _CHOICES,
    "LOG_LEVEL": ("loud", "INFO!", "7"),
    "BIND": ("8000", "http://127.0.0.1:8000", "127.0.0.1:80000"),
    "METRICS_BIND": ("on", "unix:metrics.sock", "unix:/no/such/folder/metrics.sock"),
    "PUBLISHED": ("0.0.0.0:8000", "http://gateway.example", "two words"),
    "PROCESSES": ("0", "two", "1025"),
    "THREADS": ("0", "1.5", "1" * 30),
    "AUTH": _CHOICES,
    "TOKENS": (f"shop/1:{SECRET}", f"shop:{SECRET}\u00fc", "shop:"),
    "TOKENS_FILE": ("/absent", "{folder}", "{folder}/text"),
    "CORS_ORIGINS": ("app.example", "https://app.example/path", "null"),
    "ALLOWED_HOSTS": ("http://gateway.example", "gateway.example/v1", "*.*"),
    "TRUSTED_PROXIES": ("proxy.example", "10.0.0.1/33", "10.0.0.0/8 10.1.0.0/16"),
    "DEFAULT_FORMATS": ("jpeg", "masks;overlay", "masks.zip"),
    "MAX_REDIS_MEMORY_SHARE": ("0", "90%", "1.5"),
    "MODEL_ALIASES": ("acme/one", "=acme/one", "a=b,a=c"),
    "TENANT_REQUESTS_PER_SECOND": ("0", "inf", "10/s"),
    "TENANT_QUEUED_BYTES": ("0", "1.5", "1GB"),
    "TENANT_PIXELS_PER_DAY": ("0", "-1", "1e30"),
    "TENANT_UPLOADS": ("0", "many", "1" * 30),
    "TENANT_UPLOAD_BYTES": ("0", "1.5", "1GB"),
    "MAX_WAITING_SECONDS": ("0", "61", "nan"),
    "SYNC_DEADLINE_SECONDS": ("0", "300", "nan"),
    "COLD_START_SECONDS": ("0.5", "nan", "inf"),
    "MIN_TRANSFER_BYTES_PER_SECOND": ("0", "nan", "inf"),
    "DEVICE": ("gpu", "cuda:", "cuda:-1"),
    "MODEL_CACHE": ("/dev/null", "/dev/null/models", f"/{'x' * 300}"),
    "FORWARD": _CHOICES,
    "DTYPE": ("int8", "fp16", "1"),
    "COMPILE": ("yes", "true", "1"),
    "MAX_BATCH_MEGAPIXELS": ("0", "nan", "inf"),
    "MAX_DECODE_MEGAPIXELS": ("0", "nan", "inf"),
    "MAX_INPUT_MEGAPIXELS": ("0", "nan", "inf"),
    "MAX_DECODE_MEGABYTES": ("63", "nan", "inf"),
    "MAX_BATCH_WAIT_MS": ("-1", "nan", "inf"),
    "MAX_INTERACTIVE_WAIT_MS": ("0", "nan", "inf"),
    "MAX_RECUT_MEGABYTES": ("0", "nan", "inf"),
    "RECUT_FLOOR": ("-0.1", "nan", "1.1"),
    "PROBE_HOST": ("http://127.0.0.1", "127.0.0.1:8001", "two words"),
    "PROBE_PORT": ("-1", "http", "65536"),
}

_COUNTED: Final = (
    *("MAX_WAITING", "MAX_WAITING_PER_TENANT", "MAX_UPLOAD_BYTES", "MAX_IMAGE_PIXELS", "MAX_QUEUED"),
    *("MAX_QUEUED_PER_TENANT", "MAX_PAYLOAD_BYTES", "MAX_PAYLOAD_BYTES_PER_TENANT", "MAX_BUFFERED_BYTES"),
    *("MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_PEER", "BAND_MEGABYTES", "HOST_PROCESSES", "WORKER_THREADS"),
    *("MAX_BATCH_IMAGES", "MAX_METADATA_BYTES", "MAX_IMAGES_PER_REQUEST"),
    *("MAX_EVENT_STREAMS", "MAX_EVENT_STREAMS_PER_TENANT", "MAX_URL_BYTES", "RECUT_THREADS"),
    *("MAX_DERIVED_FILES", "MAX_RENDER_CALLS", "MAX_RENDER_REPLY_BYTES", "RENDERER_THREADS"),
    "MAX_RENDER_CALLS_PER_TENANT",
)

# A text without rules has no wrong value.
FREE: Final[Mapping[str, str]] = {
    "REDIS_PASSWORD": "Redis takes a password of any characters",
}

WRONG: Final[Mapping[str, Values]] = {
    **dict.fromkeys(_COUNTED, _COUNTS),
    **{name: _SECONDS for name in NAMES if name.endswith("_SECONDS")},
    "MAX_SYNC_WAIT_SECONDS_PER_TENANT": _SECONDS,
    **_OWN,
}

# Values that are right alone: the setting that the line names, and the environment.
CONTRADICTIONS: Final[tuple[tuple[str, Mapping[str, str]], ...]] = (
    ("REDIS_CA_FILE", {"REDIS_CA_FILE": "{certificate}"}),
    ("REDIS_CERT_FILE", {"REDIS_URL": "rediss://host", "REDIS_CERT_FILE": "{certificate}"}),
    ("REDIS_KEY_FILE", {"REDIS_URL": "rediss://host", "REDIS_KEY_FILE": "{key}"}),
    (
        "REDIS_KEY_FILE",
        {"REDIS_URL": "rediss://host", "REDIS_CERT_FILE": "{certificate}", "REDIS_KEY_FILE": "{other_key}"},
    ),
    ("STORAGE_ACCESS_KEY", {"STORAGE_ACCESS_KEY": "a"}),
    ("STORAGE_SECRET_KEY", {"STORAGE_SECRET_KEY": SECRET}),
    ("INPUT_BUCKETS", {"STORAGE_BUCKET": "photos", "INPUT_BUCKETS": "scans, photos"}),
    ("MAX_QUEUED_PER_TENANT", {"MAX_QUEUED": "10", "MAX_QUEUED_PER_TENANT": "11"}),
    ("MAX_PAYLOAD_BYTES_PER_TENANT", {"MAX_PAYLOAD_BYTES": "10", "MAX_PAYLOAD_BYTES_PER_TENANT": "11"}),
    ("MAX_WAITING_PER_TENANT", {"MAX_WAITING": "10", "MAX_WAITING_PER_TENANT": "11"}),
    ("MAX_EVENT_STREAMS_PER_TENANT", {"MAX_EVENT_STREAMS": "10", "MAX_EVENT_STREAMS_PER_TENANT": "11"}),
    ("MAX_SYNC_WAIT_SECONDS_PER_TENANT", {"MAX_SYNC_WAIT_SECONDS": "5", "MAX_SYNC_WAIT_SECONDS_PER_TENANT": "6"}),
    ("MAX_WAITING", {"THREADS": "8", "MAX_WAITING": "8"}),
    ("AUTH", {"AUTH": "off", "TOKENS": SECRET}),
    ("TOKENS", {"TOKENS": f"a:{SECRET} b:{SECRET}"}),
    ("TOKENS", {"BIND": "0.0.0.0:0"}),
)
