"""What the page of the bench says: goals met and missed, results that are missing, names that would be markup."""

from __future__ import annotations

from pathlib import Path

import goals
import made_up
import page
import pytest
from sections import sections

PROJECT = Path(__file__).parents[3]
HOSTILE = "<script>document.title='taken'</script>$x$|"


def figure(results, words):
    (found,) = [found for found in goals.figures(results) if words in found.name]
    return found


def texts(found):
    return {reading.of: reading.text for reading in found.readings}


def written(results, draw=lambda chart: chart.title):
    return page.render(results, draw)


def test_goals_are_met_or_missed():
    results = made_up.results()
    assert {found.name: found.met for found in goals.figures(results)} == {
        "requests in flight at once, /items/{id} calling out": False,  # nginx failed some
        "requests in flight at once, the long-poll route": True,
        "machine memory per request in flight, long-poll route, client excluded": True,
        "GET /items/{id} through the stack ÷ the published design": True,
        "GET /items/{id} through the stack ÷ FastAPI done well": True,
        "GET /items/{id} through the stack ÷ a Node.js fastify service": True,
        "GET /items/{id} through the stack ÷ the app with no load balancer": True,
        "p99 ÷ p50 at 70 % of the highest throughput, open-loop": False,  # nginx has 3.6
        "longest time without an acknowledged write, when the primary's host loses its power": True,
    }
    assert texts(figure(results, "calling out")) == {
        "HAProxy": "50,000 for 20 s, none failed",
        "nginx": "38,186 at most, 11,814 failed",
    }
    assert texts(figure(results, "published")) == {"HAProxy cached": "305×", "HAProxy calling out": "31.4×"}
    assert texts(figure(results, "no load balancer")) == {"HAProxy cached": "0.88×", "nginx cached": "0.822×"}


@pytest.mark.parametrize(
    "change",
    [
        {"failed": 1},
        {"seconds_held": 9.9},
        {"requests_in_flight": 49_999},
    ],
)
def test_a_hold_run_that_falls_short_misses(change):
    run = {**made_up.hold_run("haproxy", "calling_out", 50_000), **change}
    found = figure({"in_flight": [run]}, "calling out")
    assert [reading.met for reading in found.readings] == [False, None]
    assert found.met is False


def test_what_is_measured_in_part_is_open():
    found = figure({"in_flight": [made_up.hold_run("nginx", "long_poll", 250_000)]}, "the long-poll route")
    assert (found.met, texts(found)["HAProxy"]) == (None, "not measured")


def test_the_largest_run_without_a_failure_counts():
    runs = [
        made_up.hold_run("haproxy", "long_poll", 250_000, failed=7),
        made_up.hold_run("haproxy", "long_poll", 200_000),
        made_up.hold_run("haproxy", "long_poll", 50_000),
    ]
    found = figure({"in_flight": runs}, "the long-poll route")
    assert texts(found)["HAProxy"] == "200,000 for 20 s, none failed"
    assert "--requests 200000 --load-balancers 28" in found.command


@pytest.mark.parametrize("change", [{"gap_seconds": 23.1}, {"lost": 1}])
def test_one_loss_that_takes_too_long_or_loses_a_write_misses(change):
    found = made_up.results()["failover"]
    assert texts(figure({"failover": found}, "power")) == {
        "PostgreSQL": "3 losses, 21.5 s, at most 22.5 s; 0 of 15,000 lost"
    }
    found["losses"][1].update(change)
    assert figure({"failover": found}, "power").met is False


def test_failed_answers_of_ours_miss_every_ratio():
    throughput = made_up.throughput()
    for row in throughput["summary"]:
        if row["contender"] == goals.OURS:
            row["failed"] = 3
    assert figure({"throughput": throughput}, "FastAPI").met is False
    assert texts(figure({"throughput": throughput}, "FastAPI"))["HAProxy cached"] == "4.11×, 3 failed"


def test_missing_results_are_open_and_their_commands_named():
    assert {found.met for found in goals.figures({})} == {None}
    shown = written({})
    assert shown.count("Not measured yet") == len(sections({})) == 14
    for section in sections({}):
        assert section.commands
        assert all(f"<code>{command}</code>" in shown for command in section.commands)


def test_a_throughput_run_that_only_compared_leaves_the_rest_to_be_made():
    throughput = {key: value for key, value in made_up.throughput().items() if key not in ("sweep", "open_loop")}
    missing = [section.title for section in sections({"throughput": throughput}) if not section.tables]
    assert "Throughput and latency over concurrency" in missing
    assert "Tail latency, open-loop" in missing
    assert "The contenders side by side" not in missing


def test_a_few_contenders_keep_their_places():
    throughput = made_up.throughput()
    (whole,) = [section for section in sections({"throughput": throughput}) if "over concurrency" in section.title]
    throughput["sweep"] = [row for row in throughput["sweep"] if row["contender"] in ("fastify", "published")]
    (part,) = [section for section in sections({"throughput": throughput}) if "over concurrency" in section.title]
    lines = part.charts[0].panels[0].lines
    assert [line.label for line in lines] == ["fastify", "as published"]
    assert set(lines) < set(whole.charts[0].panels[0].lines)


def test_names_are_text():
    results = made_up.results()
    for row in results["throughput"]["summary"] + results["throughput"]["sweep"]:
        row["contender"] = row["contender"].replace("fastify", HOSTILE)
    results["in_flight"][1]["failures"] = {HOSTILE: 11_814}
    shown = written(results, draw=lambda chart: f"{chart.title} {HOSTILE}")
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") > 3


def test_failures_are_counted_by_their_kind():
    run = made_up.hold_run("haproxy", "calling_out", 50_000, failed=126)
    run["failures"] = {"a wrong body, such as b'1'": 9, "a wrong body, such as b'2'": 45, "status 503": 72}
    assert "<td>72 status 503; 54 a wrong body</tr>" in written({"in_flight": [run]})


def test_results_are_read_by_name(tmp_path):
    assert goals.load(tmp_path) == {}
    made_up.write(tmp_path)
    (tmp_path / "other.json").write_text("no JSON")
    assert goals.load(tmp_path) == made_up.results()
    (tmp_path / "engines.json").write_text('{"connections": 6')
    with pytest.raises(goals.ResultError, match=r"engines\.json is not JSON .*: remove it, and run bench/engines\.py"):
        goals.load(tmp_path)


def test_results_of_this_repository_are_shown():
    shown = written(goals.load(PROJECT / "bench" / "results"))
    assert "c50k.stack.linode" in shown


def test_markdown_is_a_table_of_the_goals():
    lines = goals.markdown(goals.figures(made_up.results())).splitlines()
    assert lines[:2] == ["| figure | goal | measured | command |", "|---|---|---|---|"]
    assert len(lines) == 2 + 9
    assert all(line.count("|") == 5 for line in lines)
    assert "nginx 38,186 at most, 11,814 failed (missed)" in lines[2]


def test_make_bench_runs_what_the_goals_ask_for():
    lines = (PROJECT / "bench" / "run").read_text().splitlines()
    for run in goals.HOLD_RUNS:
        assert f"  measure {goals.command(run)}" in lines
