"""Checks that `lanesync init` writes beside the specs: a pre-commit hook, workflows for GitHub and GitLab."""

from __future__ import annotations

PRE_COMMIT = """\
# Checks the specs before each commit. Turn it on with: pre-commit install
repos:
  - repo: local
    hooks:
      - id: lanesync-validate
        name: the specs are valid
        entry: lanesync validate specs
        language: system
        pass_filenames: false
        files: ^specs/.*\\.ya?ml$
"""

GITHUB = """\
# Checks each change of the specs, and shows in its pull request what it would do.
#
# Variables (Settings, Secrets and variables, Actions):
#   LANESYNC_PACKAGE   what pip installs: the URL of a wheel, or a name and version on your own index
#   LANESYNC_RUNNER    label of a runner on the agent's machine that runs as the agent's user; without it
#                      changes are checked, but not planned
#   LANESYNC_STATE     the agent's state directory there; default /var/lib/lanesync
name: specs
on:
  pull_request:
  push:
    branches: [main]
permissions:
  contents: read
defaults:
  run:
    shell: bash

jobs:
  validate:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - name: install
        env:
          PACKAGE: ${{ vars.LANESYNC_PACKAGE }}
        run: python -m pip install "${PACKAGE:?set the variable LANESYNC_PACKAGE to what pip installs}"
      - name: validate
        run: lanesync validate specs
      - name: the schema for editors is of this version (lanesync schema > lanesync.schema.json)
        run: lanesync schema | diff lanesync.schema.json -

  plan:
    # What would be sent and deleted is known where the agent runs. Not for forks: strangers wrote those.
    if: >-
      github.event_name == 'pull_request' && vars.LANESYNC_RUNNER != ''
      && github.event.pull_request.head.repo.full_name == github.repository
    needs: validate
    runs-on: ${{ vars.LANESYNC_RUNNER }}
    permissions:
      contents: read
      pull-requests: write
    env:
      STATE_DIRECTORY: ${{ vars.LANESYNC_STATE || '/var/lib/lanesync' }}
    steps:
      - uses: actions/checkout@v4
      - name: plan
        run: |
          lanesync plan specs > plan.txt
          { echo 'What this change would do:'; echo; head -c 50000 plan.txt | sed 's/^/    /'; } > plan.md
          cat plan.md >> "$GITHUB_STEP_SUMMARY"
      - name: comment
        env:
          GH_TOKEN: ${{ github.token }}
          NUMBER: ${{ github.event.number }}
        run: gh pr comment "$NUMBER" --edit-last --create-if-none --body-file plan.md
"""

GITLAB = """\
# Checks each change of the specs, and shows in its merge request what it would do.
#
# Variables (Settings, CI/CD):
#   LANESYNC_PACKAGE         what pip installs: the URL of a wheel, or a name and version on your own index
#   LANESYNC_RUNNER          set it to 1 when a runner with the tag `lanesync` is on the agent's machine and
#                            runs as the agent's user; without it changes are checked, but not planned
#   LANESYNC_STATE           the agent's state directory there; default /var/lib/lanesync
#   LANESYNC_COMMENT_TOKEN   masked: a project token with the scope `api`, to comment on merge requests
stages: [check, plan]

validate:
  stage: check
  image: python:3.12-slim
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
  before_script:
    - python -m pip install "${LANESYNC_PACKAGE:?set the variable LANESYNC_PACKAGE to what pip installs}"
  script:
    - lanesync validate specs
    - lanesync schema > expected.json
    - diff lanesync.schema.json expected.json

plan:
  stage: plan
  tags: [lanesync]
  rules:
    # Not for forks: strangers wrote their specs.
    - if: >-
        $LANESYNC_RUNNER && $CI_PIPELINE_SOURCE == "merge_request_event"
        && $CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID
  script:
    - lanesync plan specs --state-dir "${LANESYNC_STATE:-/var/lib/lanesync}" > plan.txt
    - cat plan.txt
    - |
      if [ -n "$LANESYNC_COMMENT_TOKEN" ]; then
        { echo 'What this change would do:'; echo; head -c 50000 plan.txt | sed 's/^/    /'; } > plan.md
        printf 'PRIVATE-TOKEN: %s' "$LANESYNC_COMMENT_TOKEN" |
          curl --fail --silent --show-error --output /dev/null --header @- --data-urlencode body@plan.md \\
          "$CI_API_V4_URL/projects/$CI_PROJECT_ID/merge_requests/$CI_MERGE_REQUEST_IID/notes"
      fi
  artifacts:
    paths: [plan.txt]
"""

CHECKS = {
    ".pre-commit-config.yaml": PRE_COMMIT,
    ".github/workflows/specs.yml": GITHUB,
    ".gitlab-ci.yml": GITLAB,
}
"""Relative path -> content."""
