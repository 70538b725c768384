"""The OpenAPI document: against OpenAPI 3.1's own schema, and requests and answers of all routes against it."""

import copy
import json
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from conftest import MASTER_KEY


@pytest.fixture(scope="module")
def document(gateway):
    """Fetched without a key."""
    with urllib.request.urlopen(f"{gateway}/openapi.json", timeout=10) as reply:
        return json.loads(reply.read())


def test_the_document_is_what_openapi_wants(document):
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    broken = copy.deepcopy(document)
    del broken["info"]["version"]
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def closed(document):
    """The document with objects that have the described fields and no others. In `allOf` the whole is closed, not its parts."""
    components = document["components"]
    result = copy.deepcopy(document)
    result["components"]["open"] = copy.deepcopy(components["schemas"])
    for schema in result["components"]["schemas"].values():
        for part in schema.get("allOf", []):
            if "$ref" in part:
                part["$ref"] = part["$ref"].replace("/schemas/", "/open/")
        if "allOf" in schema or ("properties" in schema and "additionalProperties" not in schema):
            schema["unevaluatedProperties"] = False
    return result


class Api:
    """Calls operations and holds requests and answers against what is said of them."""

    def __init__(self, gateway, document):
        self.gateway = gateway
        self.document = closed(document)
        self.covered = set()

    def check(self, place, value):
        """Checks a value against the schema at a place in the document."""
        pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in place)
        schema = {"$ref": f"#/{pointer}", **self.document}
        errors = list(Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(value))
        assert errors == [], f"{pointer}: {value}"

    def call(self, method, path, body=None, query=None, status=200, key=MASTER_KEY, route=None):
        route = route or path
        operation = self.document["paths"][route][method.lower()]
        place = ["paths", route, method.lower()]
        if body is not None and status == 200:
            self.check([*place, "requestBody", "content", "application/json", "schema"], body)
        known = {parameter.get("name") for parameter in operation.get("parameters", [])}
        assert set(query or {}) <= known
        url = self.gateway + path + ("?" + urllib.parse.urlencode(query) if query else "")
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                found, text, sent = reply.status, reply.read(), reply.headers
        except urllib.error.HTTPError as error:
            found, text, sent = error.code, error.read(), error.headers
        assert found == status, text
        answer = operation["responses"][str(status)]
        where = [*place, "responses", str(status)]
        if "$ref" in answer:
            where = answer["$ref"].removeprefix("#/").split("/")
            answer = self.document["components"]["responses"][where[-1]]
        for name in answer["headers"]:
            value = sent.get(name)
            assert value is not None or name != "x-request-id"
        value = json.loads(text)
        self.check([*where, "content", "application/json", "schema"], value)
        if status == 200:
            self.covered.add((method, route))
        return value

    def post(self, path, **body):
        return self.call("POST", path, body)

    def get(self, path, **query):
        return self.call("GET", path, query=query)


def test_requests_and_answers_are_as_described(gateway, document):
    api = Api(gateway, document)
    budget = {"max_budget": 50, "soft_budget": 0.5, "budget_duration": "30d"}
    limits = {"models": [], "rpm_limit": 1000, "tpm_limit": None, "model_rpm_limit": {"plain": 500}}

    api.post("/organization/new", organization_id="doc-o", organization_alias="Doc", members=["doc-boss"], **budget, **limits)
    for name in ["doc-p", "doc-q"]:
        api.post("/organization/new", organization_id=name)
    api.call("PATCH", "/organization/update", {"organization_id": "doc-o", "metadata": {"a": 1}})
    api.post("/organization/update", organization_id="doc-o", max_parallel_requests=5)
    members = [{"user_id": "doc-two", "user_role": "org_admin"}, "doc-three"]
    api.post("/organization/member_add", organization_id="doc-o", members=members)
    member = {"organization_id": "doc-o", "user_id": "doc-two", "role": "internal_user"}
    api.call("PATCH", "/organization/member_update", member)
    api.post("/organization/member_update", **{**member, "role": "org_admin"})
    api.get("/organization/info", organization_id="doc-o")
    assert api.get("/organization/list", page_size=2)["total"] >= 3
    assert api.get("/organization/members", organization_id="doc-o")["data"]

    first = {"user_id": "doc-u", "role": "admin", "max_budget_in_team": 5, "budget_duration": "1mo"}
    api.post("/user/new", user_id="doc-u", user_email="u@example.com", organizations=["doc-o"], **budget)
    team = {"team_id": "doc-t", "team_alias": "Doc", "organization_id": "doc-o", "tags": [], **limits, **budget}
    models = {"plain": 3, "claude": {"budget_limit": 2, "time_period": "1d"}}
    api.post("/team/new", members_with_roles=[first], model_max_budget=models, **team)
    api.post("/team/update", team_id="doc-t", metadata={"b": [None]})
    api.post("/team/block", team_id="doc-t")
    api.post("/team/unblock", team_id="doc-t")
    api.post("/team/member_add", team_id="doc-t", member="doc-three", max_budget_in_team=1)
    api.post("/team/member_update", team_id="doc-t", user_id="doc-three", max_budget_in_team=None)
    api.get("/team/info", team_id="doc-t")
    assert api.get("/team/list", organization_id="doc-o")["data"]
    api.post("/user/update", user_id="doc-u", user_role="internal_user", user_alias="You")
    assert api.get("/user/info", user_id="doc-u")["team_memberships"]
    assert api.get("/user/list", team_id="doc-t", role="internal_user")["data"]

    new = {"team_id": "doc-t", "user_id": "doc-u", "key_alias": "doc", "duration": "30d", "model_max_budget": models}
    secret = api.post("/key/generate", **new, **budget)["key"]
    api.post("/key/update", key=secret, duration="-1", metadata={})
    api.post("/key/block", token_id=api.get("/key/info", key=secret)["token_id"])
    api.post("/key/unblock", key=secret)
    secret = api.post("/key/regenerate", key=secret)["key"]
    assert api.get("/key/list", team_id="doc-t", search="doc")["data"]

    question = {"model": "plain", "messages": [{"role": "user", "content": "Hi"}]}
    api.call("POST", "/v1/chat/completions", question, key=secret)
    deadline = time.monotonic() + 30
    while not api.get("/spend/logs", user_id="doc-u")["data"]:
        assert time.monotonic() < deadline, "no record"
        time.sleep(0.1)
    assert api.get("/spend/logs", user_id="doc-u", summarize="true")["data"]
    assert api.get("/spend/keys", team_id="doc-t")["data"]
    assert api.get("/spend/teams", organization_id="doc-o")["data"]
    assert api.get("/spend/users", organization_id="doc-o")["data"]
    assert api.get("/global/activity")["daily_data"]
    assert api.get("/global/spend/models")["data"]
    assert api.get("/global/spend/provider")["data"]
    assert api.get("/audit/logs", action="created", table_name="key")["data"]

    api.get("/control/deployments")
    api.get("/control/state")
    api.post("/control/config/reload", expected_checksum=api.get("/control/config")["checksum"])
    assert api.post("/route/explain", model="plain")["candidates"]
    api.post("/control/deployments/cooldown", deployment_id="mock/plain", cooldown_seconds=60)
    assert api.post("/route/explain", model="plain")["excluded"]
    api.post("/control/deployments/cooldown", deployment_id="mock/plain", cooldown_seconds=0)
    api.get("/cache/stats")
    api.call("POST", "/cache/flush")
    for path in ["/health", "/health/live", "/health/ready", "/openapi.json"]:
        api.call("GET", path, key=None)
    api.get("/v1/models")
    api.call("GET", "/v1/models/team/alias", route="/v1/models/{id}")

    api.post("/key/delete", key_aliases=["doc"])
    api.post("/team/member_delete", team_id="doc-t", user_id="doc-three")
    api.post("/team/delete", team_ids=["doc-t"])
    api.call("DELETE", "/organization/member_delete", {"organization_id": "doc-o", "user_ids": ["doc-three"]})
    api.post("/organization/member_delete", organization_id="doc-o", user_id="doc-two")
    api.post("/user/delete", user_ids=["doc-u", "doc-boss"])
    api.call("DELETE", "/organization/delete", {"organization_id": "doc-o"})
    api.post("/organization/delete", organization_ids=["doc-p", "doc-q"])

    calls = {("POST", path) for path in document["paths"] if path.startswith("/v1/")}
    everything = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert everything - api.covered - calls == {("GET", "/metrics")}


def test_errors_are_as_described(gateway, document):
    api = Api(gateway, document)
    api.call("GET", "/key/list", key=None, status=401)
    api.call("GET", "/key/info", query={"key": "kid_none"}, status=404)
    api.call("POST", "/team/new", {"frob": 1}, status=400)
    api.post("/team/new", team_id="doc-e", team_alias="doc-e")
    api.call("POST", "/team/new", {"team_id": "doc-e"}, status=409)
    secret = api.post("/key/generate", team_id="doc-e")["key"]
    api.call("POST", "/team/new", {}, key=secret, status=403)
    api.post("/team/delete", team_id="doc-e")
    messages = [{"role": "user", "content": "Hi"}]
    api.call("POST", "/v1/chat/completions", {"model": "none", "messages": messages}, status=404)
    api.call("POST", "/v1/messages", {"model": "none", "max_tokens": 1, "messages": messages}, status=404)
