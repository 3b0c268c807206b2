"""Certificates for a server that is called localhost: certificates.py DIR writes

    authority.pem                   the authority that signed it
    other.pem                       one that did not
    server.crt, server.key          its certificate and key
"""

import datetime
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)


def certificate(name, key, issuer, issuer_key, extensions):
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW - datetime.timedelta(hours=1)).not_valid_after(NOW + datetime.timedelta(days=1))
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    return builder.sign(issuer_key, hashes.SHA256())


def named(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def authority(text):
    key = ec.generate_private_key(ec.SECP256R1())
    name = named(text)
    return name, key, certificate(name, key, name, key, [(x509.BasicConstraints(ca=True, path_length=0), True)])


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


folder = Path(sys.argv[1])
name, authority_key, own = authority("authority")
_, _, other = authority("another authority")
key = ec.generate_private_key(ec.SECP256R1())
# The name alone: no address.
is_localhost = x509.SubjectAlternativeName([x509.DNSName("localhost")])
server = certificate(named("server"), key, name, authority_key, [(is_localhost, False)])
encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
(folder / "authority.pem").write_bytes(pem(own))
(folder / "other.pem").write_bytes(pem(other))
(folder / "server.crt").write_bytes(pem(server))
(folder / "server.key").write_bytes(key.private_bytes(*encoding))
