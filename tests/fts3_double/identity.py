"""Who asks, and what he may do: certificates, proxies and tokens made into a user with levels."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .database import Database
from .pki import PROXY_CERT_INFO, slash_dn

BASE_ID = uuid.UUID("01874efb-4735-4595-bc9c-591aef8240c9")
PUBLIC_LEVELS = {"transfer": "vo", "datamanagement": "all"}
PRODUCTION_LEVELS = {"config": "all"}
ROOT_LEVELS = dict.fromkeys(("transfer", "deleg", "config", "admin", "datamanagement"), "all")
ROLE = re.compile(r"(?:/.+)*/Role=(\w+)", re.IGNORECASE)
DER = 2  # _ssl.ENCODING_DER


@dataclass
class User:
    """The credentials of one request, as `GET /whoami` shows them."""

    user_dn: str = "anon"
    dn: list[str] = field(default_factory=lambda: ["anon"])
    voms_cred: list[str] = field(default_factory=list)
    vos: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    level: dict[str, str] = field(default_factory=dict)
    delegation_id: str | None = None
    method: str = "unauthenticated"
    is_root: bool = False
    certificate: x509.Certificate | None = None
    token: str = ""
    claims: dict[str, Any] = field(default_factory=dict)

    def level_for(self, operation: str) -> str | None:
        """`all`, `vo`, "" (only his own) or None. A token user passes every check."""
        return "all" if self.method == "oauth2" else self.level.get(operation)

    def may(self, operation: str, owner: str | None = None, vo: str | None = None) -> bool:
        level = self.level_for(operation)
        if level == "vo":
            return vo is None or vo in self.vos or owner == self.user_dn
        return level == "all" or (level == "" and owner in (None, self.user_dn))

    def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "user_dn": self.user_dn,
            "dn": self.dn,
            "base_id": str(BASE_ID),
            "voms_cred": self.voms_cred,
            "vos": self.vos,
            "vos_id": [str(uuid.uuid5(BASE_ID, vo)) for vo in self.vos],
            "roles": self.roles,
            "level": self.level,
            "delegation_id": self.delegation_id,
            "method": self.method,
            "is_root": self.is_root,
        }
        if self.method == "oauth2":
            found["oauth2_scope"] = self.claims.get("scope", "")
            found["wlcg_profile"] = "wlcg.groups" in self.claims
        return found


class BadBearerError(Exception):
    """A token where none is taken; the login layer answers 400."""


class Identities:
    """Makes users. `identities.json` in the folder holds gridmap, VOMS attributes, grants and token issuers.

    {"gridmap": {dn: vo}, "fqans": {dn: [fqan]}, "authz": {dn: [operation]},
     "issuers": {url: PEM of the public key}, "audiences": [text]}
    """

    def __init__(self, file: Path, database: Database, host_dn: str) -> None:
        known = json.loads(file.read_text()) if file.exists() else {}
        self._gridmap: dict[str, str] = known.get("gridmap", {})
        self._fqans: dict[str, list[str]] = known.get("fqans", {})
        self._authz: dict[str, list[str]] = known.get("authz", {})
        self.issuers: dict[str, str] = known.get("issuers", {})
        self._audiences = set(known.get("audiences", []))
        self._database = database
        self._host_dn = host_dn

    def user(self, tls: ssl.SSLSocket | None, authorization: str, *, oauth2: bool, gridsite: bool) -> User:
        """The user of a request; anonymous when nothing he showed holds. A token wins over a certificate."""
        if authorization.lower().startswith("bearer"):
            if not oauth2:
                raise BadBearerError
            user = self._by_token(authorization.split(None, 1)[-1].strip())
        else:
            user = self._by_certificate(tls, gridsite)
        if user.method != "unauthenticated":
            user.level = self._levels(user)
        return user

    def _by_certificate(self, tls: ssl.SSLSocket | None, gridsite: bool) -> User:
        chain = peer_chain(tls)
        if not chain:
            return User()
        proxies = [c for c in chain if is_proxy(c)]
        names = [slash_dn(c.subject) for c in chain[: len(proxies) + 1]][::-1]
        dn = names[0] if gridsite else names[-1]
        fqans = self._fqans.get(dn, [])
        vos = list(dict.fromkeys(vo_of(fqan) for fqan in fqans))
        delegation_id = short_hash(dn, *fqans)
        return User(
            user_dn=dn,
            dn=names if gridsite else [dn],
            voms_cred=fqans,
            vos=vos or [self._gridmap.get(dn, delegation_id)],
            roles=[m[1] for fqan in fqans if (m := ROLE.match(fqan)) and m[1].upper() != "NULL"],
            delegation_id=delegation_id,
            method="certificate",
            is_root=dn == self._host_dn,
            certificate=chain[0],
        )

    def _by_token(self, token: str) -> User:
        claims = self.checked_claims(token)
        if claims is None or not self._audience_fits(claims):
            return User()
        issuer, subject = claims["iss"], str(claims.get("sub", ""))
        groups = [str(group).strip("/") for group in claims.get("wlcg.groups", [])]
        host = issuer.split("//")[-1].split("/")[0]
        return User(
            user_dn=subject,
            dn=[subject],
            vos=groups[:1] or [host],
            delegation_id=short_hash(issuer, subject),
            method="oauth2",
            token=token,
            claims=claims,
        )

    def checked_claims(self, token: str) -> dict[str, Any] | None:
        """The claims of a token whose issuer is known, signature right and time not over; else None."""
        try:
            head, payload, signature = token.split(".")
            header, claims = json.loads(unpadded(head)), json.loads(unpadded(payload))
            key = serialization.load_pem_public_key(self.issuers[claims["iss"]].encode())
            if header.get("alg") != "RS256" or not isinstance(key, rsa.RSAPublicKey):
                return None
            key.verify(unpadded(signature), f"{head}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256())
            in_time = float(claims.get("nbf", 0)) <= time.time() < float(claims["exp"])
        except (ValueError, KeyError, TypeError, AttributeError, InvalidSignature):
            return None
        return claims if in_time else None

    def _audience_fits(self, claims: dict[str, Any]) -> bool:
        audience = claims.get("aud")
        return bool(self._audiences & set([audience] if isinstance(audience, str) else audience or []))

    def _levels(self, user: User) -> dict[str, str]:
        if user.is_root:
            return dict(ROOT_LEVELS)
        level = dict(PUBLIC_LEVELS)
        if "production" in user.roles:
            level.update(PRODUCTION_LEVELS)
        granted = self._database.document("authz", user.user_dn) or []
        level.update(dict.fromkeys([*self._authz.get(user.user_dn, []), *granted], "all"))
        if level.get("admin") == "all":
            level["config"] = "all"
        return level


def peer_chain(tls: ssl.SSLSocket | None) -> list[x509.Certificate]:
    """The peer's certificates, his own first, up to the authority; [] without any."""
    if tls is None or (leaf := tls.getpeercert(True)) is None:
        return []
    if sys.version_info >= (3, 13):
        chain = tls.get_verified_chain()
    else:
        chain = [c.public_bytes(DER) for c in tls._sslobj.get_verified_chain() or []]  # type: ignore[attr-defined]
    return [x509.load_der_x509_certificate(der) for der in chain or [leaf]]


def is_proxy(certificate: x509.Certificate) -> bool:
    return any(extension.oid == PROXY_CERT_INFO for extension in certificate.extensions)


def vo_of(fqan: str) -> str:
    """`/farm/cern/Role=x` → `farm/cern`."""
    groups = []
    for part in fqan.split("/")[1:]:
        if part.lower().startswith("role="):
            break
        groups.append(part)
    return "/".join(groups)


def short_hash(*texts: str) -> str:
    """How delegation ids and token ids are made."""
    return hashlib.sha1("".join(texts).encode()).hexdigest()[:16]


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
