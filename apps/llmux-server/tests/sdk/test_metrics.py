"""The metrics, as Prometheus's own client library reads them."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

QUESTION = [{"role": "user", "content": "Hi"}]


def scrape(gateway):
    """Returns the families by their names."""
    with urllib.request.urlopen(f"{gateway}/metrics", timeout=10) as reply:
        assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = list(text_string_to_metric_families(reply.read().decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "the series of a family stand together"
    return {family.name: family for family in families}


def value(families, family, name, **labels):
    samples = families[family].samples if family in families else []
    return sum(it.value for it in samples if it.name == name and labels.items() <= it.labels.items())


def test_the_client_library_reads_what_calls_have_changed(gateway, client):
    before = scrape(gateway)
    assert client.chat.completions.create(model="plain", messages=QUESTION).usage.total_tokens > 0
    for _ in client.chat.completions.create(model="claude", messages=QUESTION, stream=True):
        pass
    after = scrape(gateway)

    def grown(family, name, **labels):
        return value(after, family, name, **labels) - value(before, family, name, **labels)

    chat = {"route": "/v1/chat/completions", "status": "200", "outcome": "ok"}
    assert grown("llmux_requests", "llmux_requests_total", model="plain", provider="mock", **chat) == 1
    assert grown("llmux_tokens", "llmux_tokens_total", model="plain", kind="input") > 0
    first = "llmux_time_to_first_output_seconds"
    assert grown(first, f"{first}_count", model="claude", provider="claude") == 1
    assert grown(first, f"{first}_bucket", model="claude", provider="claude", le="+Inf") == 1
    model = {"model": "plain"}
    for ours, theirs in [
        (grown("llmux_tokens", "llmux_tokens_total", kind="input", **model), "litellm_input_tokens_metric"),
        (grown("llmux_spend_dollars", "llmux_spend_dollars_total", **model), "litellm_spend_metric"),
    ]:
        assert abs(grown(theirs, f"{theirs}_total", **model) - ours) < 1e-9, theirs
    latency = "litellm_request_total_latency_metric"
    assert grown(latency, f"{latency}_count", **model) == 1
    for name, family in after.items():
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), name
        assert family.samples, name
