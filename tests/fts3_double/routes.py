"""Which handler answers which path, and what goes out when none does or one fails."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from typing import Any

from . import banning, cancelling, config, config_more, data_calls, delegation, jobs
from .app import App, need_certificate
from .front import Answer, Request, html_answer, json_answer
from .identity import BadBearerError, User
from .problems import INTERNAL, NOT_FOUND, WRONG_METHOD, ServiceError

Handler = Callable[..., Answer]
VERSIONS = {
    "delegation": {"major": 1, "minor": 0, "patch": 0},
    "api": {"major": 3, "minor": 13, "patch": 4},
    "core": None,
    "schema": {"minor": 1, "patch": 0, "major": 9},
}
LINKS: dict[str, Any] = {
    "curies": [{"name": "fts", "href": "https://gitlab.cern.ch/fts/fts3"}],
    "fts:whoami": {"href": "/whoami", "title": "Check user certificate"},
    "fts:joblist": {
        "href": "/jobs{?vo_name,user_dn,dlg_id,state_in}",
        "title": "List of active jobs",
        "templated": True,
    },
    "fts:job": {
        "href": "/jobs/{id}",
        "title": "Job information",
        "templated": True,
        "hints": {"allow": ["GET", "DELETE"]},
    },
    "fts:configaudit": {"href": "/config/audit", "title": "Configuration"},
    "fts:submitschema": {"href": "/api-docs/schema/submit", "title": "JSON schema of messages"},
    "fts:apidocs": {"href": "/api-docs/", "title": "API Documentation"},
    "fts:jobsubmit": {
        "href": "/jobs",
        "hints": {"allow": ["POST"], "representations": ["fts:submitschema"]},
    },
    "fts:optimizer": {"href": "/optimizer/", "title": "Optimizer"},
    "fts:archive": {"href": "/archive/", "title": "Archive"},
}
SUBMIT_SCHEMA = {
    "title": "Transfer submission",
    "type": "object",
    "required": ["files"],
    "properties": {
        "params": {"type": ["object", "null"], "properties": {"priority": {"type": ["integer", "null"]}}},
        "files": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["sources", "destinations"],
                "properties": {
                    "sources": {"type": "array", "items": {"type": "string"}},
                    "destinations": {"type": "array", "items": {"type": "string"}},
                    "filesize": {"type": ["number", "null"]},
                    "checksum": {"type": ["string", "null"]},
                    "metadata": {"type": ["object", "string", "null"]},
                },
            },
        },
    },
}


def root(app: App, request: Request) -> Answer:
    return json_answer({**VERSIONS, "_links": LINKS})


def whoami(app: App, request: Request) -> Answer:
    return json_answer(request.user.shown())


def certificate(app: App, request: Request) -> Answer:
    user = need_certificate(request)
    assert user.certificate is not None
    pem = user.certificate.public_bytes(delegation.PEM)
    return Answer(200, pem, "application/x-pem-file")


def submit_schema(app: App, request: Request) -> Answer:
    return json_answer(SUBMIT_SCHEMA)


def archive_index(app: App, request: Request) -> Answer:
    link = {"href": "/archive/{id}", "title": "Archived job information", "templated": True}
    return json_answer({"_links": {"curies": LINKS["curies"], "fts:archivedJob": link}})


_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/", root),
    ("GET", "/whoami", whoami),
    ("GET", "/whoami/certificate", certificate),
    ("GET", "/delegation/<dlg_id>", delegation.view),
    ("DELETE", "/delegation/<dlg_id>", delegation.delete),
    ("GET", "/delegation/<dlg_id>/request", delegation.new_request),
    ("PUT POST", "/delegation/<dlg_id>/credential", delegation.put_credential),
    ("POST", "/delegation/<dlg_id>/voms", delegation.voms),
    ("GET", "/jobs/?", jobs.index),
    ("PUT POST", "/jobs", jobs.submit),
    ("DELETE", "/jobs/all", cancelling.cancel_all),
    ("DELETE", "/jobs/vo/<vo>", cancelling.cancel_all),
    ("GET", "/jobs/<ids>", jobs.get),
    ("DELETE", "/jobs/<ids>", cancelling.cancel),
    ("POST", "/jobs/<ids>", cancelling.modify),
    ("GET", "/jobs/<job_id>/files", jobs.get_files),
    ("DELETE", "/jobs/<job_id>/files/<file_ids>", cancelling.cancel_files),
    ("GET", "/jobs/<job_id>/files/<file_id>/retries", jobs.get_retries),
    ("GET", "/jobs/<job_id>/dm", jobs.get_dm),
    ("GET", "/jobs/<job_id>/<field>", jobs.get_field),
    ("GET", "/files/?", jobs.list_files),
    ("GET", "/archive/?", archive_index),
    ("GET", "/archive/<job_id>", jobs.archived),
    ("GET", "/archive/<job_id>/<field>", jobs.archived),
    ("GET", "/api-docs/schema/submit", submit_schema),
    ("POST", "/ban/se", banning.ban_se),
    ("DELETE", "/ban/se", banning.unban_se),
    ("GET", "/ban/se", banning.list_banned_se),
    ("POST", "/ban/dn", banning.ban_dn),
    ("DELETE", "/ban/dn", banning.unban_dn),
    ("GET", "/ban/dn", banning.list_banned_dn),
    ("GET", "/config", config_more.hosts),
    ("GET", "/config/audit", config_more.audit),
    ("POST", "/config/links", config.set_link),
    ("GET", "/config/links", config.get_links),
    ("GET", "/config/links/<name>", config.get_link),
    ("DELETE", "/config/links/<name>", config.delete_link),
    ("POST", "/config/se", config.set_se),
    ("GET", "/config/se", config.get_se),
    ("DELETE", "/config/se", config.delete_se),
    ("POST", "/config/activity_shares", config.set_activities),
    ("GET", "/config/activity_shares", config.get_activities),
    ("GET", "/config/activity_shares/<vo>", config.get_activities_of),
    ("DELETE", "/config/activity_shares/<vo>", config.delete_activities),
    ("POST", "/config/shares", config.set_share),
    ("GET", "/config/shares", config.get_shares),
    ("DELETE", "/config/shares", config.delete_share),
    ("POST", "/config/drain", config.set_drain),
    ("POST", "/config/global", config.set_global),
    ("GET", "/config/global", config.get_global),
    ("DELETE", "/config/global", config.delete_global),
    ("POST", "/config/authorize", config_more.authorize),
    ("GET", "/config/authorize", config_more.list_authorized),
    ("DELETE", "/config/authorize", config_more.revoke),
    ("POST", "/config/cloud_storage", config_more.set_cloud),
    ("GET", "/config/cloud_storage", config_more.get_clouds),
    ("GET", "/config/cloud_storage/<name>", config_more.get_cloud),
    ("DELETE", "/config/cloud_storage/<name>", config_more.delete_cloud),
    ("POST", "/config/cloud_storage/<name>", config_more.add_cloud_user),
    ("DELETE", "/config/cloud_storage/<name>/<who>", config_more.remove_cloud_user),
    ("GET", "/optimizer/?", config_more.optimizer_enabled),
    ("GET", "/optimizer/current", config_more.optimizer_values),
    ("POST", "/optimizer/current", config_more.set_optimizer),
    ("GET", "/optimizer/evolution", config_more.optimizer_evolution),
    ("GET", "/dm/stat", data_calls.stat),
    ("GET", "/dm/list", data_calls.listing),
    ("POST", "/dm/mkdir", data_calls.mkdir),
    ("POST", "/dm/rmdir", data_calls.rmdir),
    ("POST", "/dm/unlink", data_calls.unlink),
    ("POST", "/dm/rename", data_calls.rename),
    ("POST", "/admin/force-start", config_more.force_start),
    ("GET", "/status/hosts", config_more.status_hosts),
    ("GET", "/autocomplete/<what:dn|source|destination|storage|vo>", config_more.complete),
)


def _pattern(path: str) -> re.Pattern[str]:
    """`<name>` is one part of the path, `<name:a|b>` one of these words, `/?` a slash that may be missing."""
    text = re.sub(r"<(\w+):([^>]+)>", r"(?P<\1>\2)", path)
    return re.compile(re.sub(r"(?<!P)<(\w+)>", r"(?P<\1>[^/]+)", text) + r"\Z")


ROUTES = tuple((tuple(methods.split()), _pattern(path), handler) for methods, path, handler in _ROUTES)


class Dispatcher:
    """The login layer and the routes."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._memory = banning.BanMemory()

    def __call__(self, request: Request) -> Answer:
        refused = self._log_in(request)
        if refused is not None:
            return refused
        try:
            handler, arguments = _find(request)
            return handler(self._app, request, **arguments)
        except ServiceError as problem:
            return problem.answer()
        except Exception as error:
            if not isinstance(error, OSError):
                traceback.print_exc()
            return ServiceError(500, INTERNAL).answer()

    def _log_in(self, request: Request) -> Answer | None:
        """Find the user; the HTML answer when the login layer turns him away."""
        settings = self._app.settings
        origin = request.headers.get("Origin")
        if origin and origin.split("//")[-1] != request.headers.get("Host", ""):
            return html_answer(403, "The request comes from another origin")
        try:
            request.user = self._app.identities.user(
                request.tls,
                request.headers.get("Authorization", ""),
                oauth2=settings.oauth2,
                gridsite=settings.gridsite,
            )
        except BadBearerError:
            return html_answer(400, "Bearer tokens are not enabled")
        if self._banned(request.user):
            return html_answer(403, "The user has been banned")
        return None

    def _banned(self, user: User) -> bool:
        row = self._app.database.row("SELECT 1 FROM banned_dn WHERE dn = ?", (user.user_dn,))
        return self._memory.refuses(user.user_dn, row is not None, self._app.settings.ban_memory)


def _find(request: Request) -> tuple[Handler, dict[str, str]]:
    other = False
    method = "GET" if request.method == "HEAD" else request.method
    for methods, pattern, handler in ROUTES:
        match = pattern.match(request.path)
        if match is None:
            continue
        if method in methods:
            return handler, match.groupdict()
        other = True
    raise ServiceError(405, WRONG_METHOD) if other else ServiceError(404, NOT_FOUND)
