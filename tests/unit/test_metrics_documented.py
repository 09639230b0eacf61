"""The metrics page and the alert rules, held against the contract in the code."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from agent.api.metrics import CONTRACT, table

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "monitoring" / "lanesync.rules.yml"
BEGIN, END = "<!-- begin: made from agent/api/metrics.py -->\n", "<!-- end -->"


def test_the_page_has_the_contract() -> None:
    """docs/metrics.md holds the table that the code makes; put it there when this fails."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert page.partition(BEGIN)[2].partition(END)[0] == table()


def test_rules_use_promised_metrics_only() -> None:
    promised = {family.name + family.suffix for family in CONTRACT}
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    used = {name for rule in rules for name in re.findall(r"\blanesync_\w+", rule["expr"])}
    assert used
    assert used <= promised
    assert all(rule["annotations"]["action"] for rule in rules), "each alert says what to do"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed here")
def test_rules_fire_when_they_should() -> None:
    """Each rule has a case in the rules' own tests, and Prometheus agrees with all of them."""
    tests = RULES.with_name("lanesync.rules.test.yml")
    cases = [
        case["alertname"]
        for test in yaml.safe_load(tests.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    names = {rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    assert set(cases) == names
    done = subprocess.run(
        ["promtool", "test", "rules", tests.name],
        cwd=tests.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
