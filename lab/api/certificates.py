# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and their keys, as a NodeBalancer takes them: PEM, the key without a passphrase."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from lab.api.wire import Problems


def check_pair(certificate: str, key: str, problems: Problems) -> None:
    """Note what is wrong with a certificate, which its chain may follow, and its key."""
    public = None
    try:
        public = x509.load_pem_x509_certificates(certificate.encode())[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        problems.add("ssl_cert", "Must be a PEM-formatted certificate")
    try:
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        problems.add("ssl_key", "Must be a PEM-formatted private key without a passphrase")
        return
    if public is not None and private.public_key() != public:
        problems.add("ssl_key", "ssl_key is not the key of ssl_cert")


def describe(certificate: str) -> tuple[str, str]:
    """Return a certificate's common name, empty if it has none, and its SHA1 fingerprint."""
    found = x509.load_pem_x509_certificates(certificate.encode())[0]
    names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    fingerprint = found.fingerprint(hashes.SHA1()).hex(":").upper()
    return str(names[0].value) if names else "", fingerprint
