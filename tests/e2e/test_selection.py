"""Agents that share a set of specs, each with its own part of them."""

from __future__ import annotations

from pathlib import Path

from agents import World, world


def labelled(w: World, name: str, site: str, more: str = "") -> str:
    source = w.directory / f"source-{name}"
    source.mkdir(exist_ok=True)
    (source / "file").write_text(name)
    text = w.mapping(name, f"/{name}", more, str(source))
    return text.replace(f"{{name: {name}}}", f"{{name: {name}, labels: {{site: {site}}}}}")


def test_an_agent_delivers_what_it_selects_and_removes_what_it_no_longer_does(tmp_path: Path) -> None:
    """What leaves the selection leaves the specs of this agent: its `onRemove` is carried out."""
    with world(tmp_path) as w:
        w.write(labelled(w, "paris", "paris", "onRemove: delete"), labelled(w, "rome", "rome"))

        def once(select: str) -> None:
            done = w.call("run", str(w.specs), "--once", "--timeout", "100s", "--select", select)
            assert done.returncode == 0, done.stdout + done.stderr

        once("site notin (rome)")
        assert ((w.received / "paris/file").exists(), (w.received / "rome").exists()) == (True, False)
        known = w.call("status", "--select", "site=paris", "--output", "json").stdout
        assert '"Mapping"' in known
        assert '"rome"' not in known
        none = w.call("status", "--select", "site=oslo")
        assert (none.returncode, "site=oslo" in none.stderr) == (1, True)
        once("site notin (paris)")
        assert ((w.received / "paris/file").exists(), (w.received / "rome/file").exists()) == (False, True)


def test_a_plan_is_that_of_the_selection(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.write(labelled(w, "paris", "paris"), labelled(w, "rome", "rome"))
        shown = w.call("plan", str(w.specs), "--select", "site=paris").stdout
        assert ("paris" in shown, "rome" in shown) == (True, False)
        wrong = w.call("plan", str(w.specs), "--select", "site=")
        assert wrong.returncode == 0
        assert w.call("plan", str(w.specs), "--select", "site>1").returncode == 2


def test_a_saved_plan_keeps_its_selection_and_its_policy(tmp_path: Path) -> None:
    """`apply PLAN` carries out what was shown, and refuses when the policy no longer allows it."""
    with world(tmp_path) as w:
        w.write(labelled(w, "paris", "paris"), labelled(w, "rome", "rome"))
        text = (
            f"apiVersion: lanesync/v1\nkind: Policy\nspec:\n  sources: [{tmp_path}]\n"
            "  addresses: [{network: 127.0.0.0/8}]\n  listen: [{network: 127.0.0.0/8}]\n"
            "  receiveRoots: [received]\n"
        )
        policy, saved = tmp_path / "policy.yaml", tmp_path / "saved"
        policy.write_text(text)
        options = ("--select", "site!=rome", "--policy", str(policy), "--out", str(saved))
        assert w.call("plan", str(w.specs), *options).returncode == 0
        policy.write_text(text.replace(f"[{tmp_path}]", "[/elsewhere]"))
        refused = w.call("apply", str(saved))
        assert (refused.returncode, "`spec.sources` allows /elsewhere" in refused.stdout) == (5, True)
        policy.write_text(text)
        done = w.call("apply", str(saved))
        assert done.returncode == 0, done.stdout + done.stderr
        assert ((w.received / "paris/file").exists(), (w.received / "rome").exists()) == (True, False)
