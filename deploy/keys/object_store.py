"""What SeaweedFS reads at its start: its one S3 identity, and the certificate that its components ask each other for.

`weed mini` runs master, volume server, filer and admin server in one process.  They talk over ports of their own, by
HTTP and gRPC, and by default these ports serve every caller, the S3 secret key included.  With this configuration a
caller must present the certificate, whose key only that process can read.
"""

import datetime
import ipaddress
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.keys.private_files import PRIVATE_FILE, write_private

_VALID_DAYS = 36_500
_GRPC_COMPONENTS = ("volume", "master", "filer", "s3", "msg_broker", "msg_agent", "admin", "worker", "mq", "client")
_HTTPS_SERVERS = ("volume", "master", "filer", "admin")


def write_identities(file: Path, access_key: str, secret_key: str, *, mode: int = PRIVATE_FILE) -> None:
    """Write the value of `-s3.config`: one identity, which may do everything."""
    owner = {
        "name": "maskmill",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write_private(file, json.dumps({"identities": [owner]}), mode=mode)


def write_security(folder: Path, *, seen_as: Path | None = None, mode: int = PRIVATE_FILE) -> None:
    """Write `security.toml`, for `-config_dir`, and a new certificate with its key.

    Args:
        seen_as: the folder's path in the file system of the object store, if that differs.
    """
    certificate, key = make_certificate()
    write_private(folder / "internal.key", key, mode=mode)
    write_private(folder / "internal.crt", certificate, mode=mode)
    write_private(folder / "security.toml", _format_security(seen_as or folder), mode=mode)


def make_certificate(name: str = "maskmill", addresses: tuple[str, ...] = ("127.0.0.1",)) -> tuple[str, str]:
    """Return a self-signed certificate and its key, in PEM.  The certificate is an authority too: it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ a little.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(list(map(_parse_address, addresses))), critical=False)
        .sign(key, hashes.SHA256())
    )
    private_bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private_bytes.decode()


def _parse_address(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _format_security(folder: Path) -> str:
    certificate, key = json.dumps(str(folder / "internal.crt")), json.dumps(str(folder / "internal.key"))
    pair = f"cert = {certificate}\nkey = {key}\n"
    with_authority = f"{pair}ca = {certificate}\n"
    sections = [
        f"[grpc]\nca = {certificate}\n",
        *(f"[grpc.{component}]\n{pair}" for component in _GRPC_COMPONENTS),
        *(f"[https.{server}]\n{with_authority}" for server in _HTTPS_SERVERS),
        f"[https.client]\nenabled = true\n{with_authority}",
    ]
    return "\n".join(sections)
