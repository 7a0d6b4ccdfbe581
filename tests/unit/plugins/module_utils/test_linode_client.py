# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import threading

import pytest
from ansible_collections.c50k.stack.plugins.module_utils import linode
from ansible_collections.c50k.stack.plugins.module_utils.linode import LinodeApi, LinodeError, RateLimit
from ansible_collections.c50k.stack.tests.unit.plugins.linode_account import TOKEN, Account, Fault, serve

PATH = "/linode/instances"
BODY = {
    "label": "demo-1",
    "tags": ["demo"],
    "region": "de-fra-2",
    "type": "g6-nanode-1",
    "image": "linode/debian13",
    "authorized_keys": ["ssh-ed25519 AAAA"],
    "booted": True,
    "interface_generation": "linode",
    "interfaces": [{"public": {}}],
}


@pytest.fixture
def account(monkeypatch):
    monkeypatch.setattr(linode, "BACKOFF", 0.01)
    with serve(Account()) as account:
        yield account


@pytest.fixture
def api(account):
    return LinodeApi(TOKEN, account.url, timeout=5)


def find(api):
    return lambda: next(iter(api.rows(PATH, {"label": "demo-1"})), None)


@pytest.mark.parametrize("token", [None, "", "  "])
def test_missing_token_is_named(token):
    with pytest.raises(LinodeError, match="LINODE_TOKEN"):
        LinodeApi(token)


@pytest.mark.parametrize("token", ["two words", "secret\nline", "sécret"])
def test_what_is_no_token_is_not_shown(token):
    with pytest.raises(LinodeError, match="is no token") as caught:
        LinodeApi(token)
    assert token[:3] not in str(caught.value)


def test_wrong_token_is_explained_and_not_retried(account):
    with pytest.raises(LinodeError, match=r"\[401\] Invalid Token.*refuses the token"):
        LinodeApi("wrong", account.url).rows(PATH)
    assert len(account.calls) == 1


def test_netrc_does_not_replace_the_token(account, api, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert api.rows(PATH) == []


@pytest.mark.parametrize("status", [0, 408, 429, 500, 502, 503, 504])
def test_idempotent_calls_are_sent_again(account, api, status):
    path = f"{PATH}/{account.add_instance('demo-1', ['demo'])['id']}"
    account.faults = [Fault(method, p, status) for method, p in (("GET", PATH), ("PUT", path), ("DELETE", path)) * 2]
    assert len(api.rows(PATH)) == 1
    assert api.put(path, {"tags": ["a"]})["tags"] == ["a"]
    api.delete(path)
    assert account.labels() == [] and account.faults == []


def test_reads_are_sent_again_and_end(account, api):
    account.faults = [Fault("GET", "/regions", 503) for attempt in range(4)]
    assert len(api.rows("/regions")) == 2
    account.faults = [Fault("GET", "/regions", 503) for attempt in range(5)]
    with pytest.raises(LinodeError, match=r"\[503\] ordered"):
        api.rows("/regions")


def test_lost_answer_of_a_delete_is_no_failure(account, api):
    row = account.add_instance("demo-1", ["demo"])
    account.faults = [Fault("DELETE", f"{PATH}/{row['id']}", 0, done=True)]
    api.delete(f"{PATH}/{row['id']}")
    assert account.labels() == []


def test_retry_after_is_waited_for(account, api):
    account.faults = [Fault("GET", "/regions", 429, headers={"Retry-After": "1"})]
    api.rows("/regions")
    first, second = account.times["GET /regions"]
    assert second - first >= 1


def test_retry_after_means_nothing_where_linode_sends_it_anyway(account, api, monkeypatch):
    monkeypatch.setattr(linode.time, "sleep", lambda seconds: seconds < 1 or pytest.fail(f"waits {seconds} s"))
    account.faults = [Fault("GET", "/regions", 500, headers={"Retry-After": "60"})]
    assert len(api.rows("/regions")) == 2


def test_retry_after_is_bounded(account, api, monkeypatch):
    monkeypatch.setattr(linode, "MAX_WAIT", 0.05)
    account.faults = [Fault("GET", "/regions", 429, headers={"Retry-After": "86400"})]
    assert len(api.rows("/regions")) == 2


def test_answer_that_does_not_come_ends_in_time(monkeypatch):
    monkeypatch.setattr(linode, "BACKOFF", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = LinodeApi(TOKEN, f"http://127.0.0.1:{silent.getsockname()[1]}/v4", timeout=0.1)
        hangs_up = threading.Timer(10, silent.close)
        hangs_up.start()
        with pytest.raises(LinodeError, match="no answer. Is api_url right"):
            api.rows(PATH)
        assert hangs_up.is_alive(), "it was the other side that ended it"
        hangs_up.cancel()


def test_what_is_not_the_api_is_said_to_be_so(account):
    with pytest.raises(LinodeError, match="Is api_url right"):
        LinodeApi(TOKEN, "nonsense").rows(PATH)
    with pytest.raises(LinodeError, match="not a page of a list"):
        row = account.add_instance("demo-1", [])
        LinodeApi(TOKEN, account.url).rows(f"{PATH}/{row['id']}")


def test_error_names_field_and_reason(account, api):
    account.add_instance("demo-1", ["other"])
    with pytest.raises(LinodeError, match=r"\[400\] label: Label must be unique"):
        api.post(PATH, BODY)


def test_500_rows_take_one_call(account, api):
    for number in range(1001):
        account.add_instance(f"demo-{number}", ["demo"])
    assert len(api.rows(PATH)) == 1001
    assert len(account.calls) == 3


@pytest.mark.parametrize("gone", [1, 600])
def test_a_list_that_shrinks_while_it_is_read_loses_nobody(account, api, gone):
    for number in range(1001):
        account.add_instance(f"demo-{number}", ["demo"])
    survivors = set(account.labels()[gone:])

    def shrink(account, path, page):
        del account.instances[:gone]
        account.after_page = lambda *page: None

    account.after_page = shrink
    assert {row["label"] for row in api.rows(PATH)} == survivors


def test_a_list_that_grows_while_it_is_read_is_whole(account, api):
    for number in range(501):
        account.add_instance(f"demo-{number}", ["demo"])

    def grow(account, path, page):
        account.instances.insert(0, account.instances[0] | {"id": 1, "label": "new"})
        account.after_page = lambda *page: None

    account.after_page = grow
    assert {row["label"] for row in api.rows(PATH)} == {"new", *account.labels()}


def test_a_list_that_never_keeps_still_ends(account, api):
    account.after_page = lambda account, path, page: account.add_instance(f"new-{len(account.calls)}", [])
    for number in range(501):
        account.add_instance(f"demo-{number}", ["demo"])
    assert len(api.rows(PATH)) >= 501
    assert len(account.calls) == 2 * linode.ATTEMPTS


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("status", [0, 408, 500, 502, 504])
def test_create_makes_exactly_one(account, api, status, done):
    account.faults = [Fault("POST", PATH, status, done)]
    assert api.create(PATH, BODY, find(api))["label"] == "demo-1"
    assert account.labels() == ["demo-1"]
    assert account.writes() == [("POST", PATH)] * (1 if done else 2)


def test_create_survives_an_api_that_answers_nothing_for_a_while(account, api):
    account.faults = [Fault("POST", PATH) for attempt in range(4)]
    api.create(PATH, BODY, find(api))
    assert account.labels() == ["demo-1"]


def test_create_that_lands_after_the_lookup_is_found(account, api):
    """The server is slow: it makes the thing between the look-up and the second POST."""
    looked = []

    def slow():
        found = find(api)()
        if not looked:
            account.add_instance("demo-1", ["demo"])
        looked.append(found)
        return found

    account.faults = [Fault("POST", PATH, 0)]
    assert api.create(PATH, BODY, slow)["label"] == "demo-1"
    assert account.labels() == ["demo-1"]


def test_create_waits_as_long_as_the_api_asks(account, api):
    account.faults = [Fault("POST", PATH, 429, headers={"Retry-After": "1"})]
    api.create(PATH, BODY, find(api))
    first, second = account.times[f"POST {PATH}"]
    assert second - first >= 1


def test_create_that_is_refused_is_not_repeated(account, api):
    account.faults = [Fault("POST", PATH, 403)]
    with pytest.raises(LinodeError, match=r"\[403\]"):
        api.create(PATH, BODY, find(api))
    assert account.writes() == [("POST", PATH)]


def test_rate_limit(monkeypatch):
    class Clock:
        now = 5.0

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds

    clock, limit = Clock(), RateLimit(3, 15)
    monkeypatch.setattr(linode, "time", clock)

    def passes():
        limit.wait()
        return clock.now

    assert [passes() for number in range(7)] == [5, 5, 5, 20, 20, 20, 35]
    clock.now = 100
    assert passes() == 100


def test_filter_has_all_tags_and_any_region():
    assert linode.instance_filter() is None
    assert linode.instance_filter(["a"]) == {"tags": "a"}
    assert linode.instance_filter(["a", "b"], ["x", "y"]) == {
        "+and": [{"tags": "a"}, {"tags": "b"}, {"+or": [{"region": "x"}, {"region": "y"}]}]
    }


def test_suggestions_are_near_or_few():
    assert linode.suggest("g6-dedicated4", ["g6-dedicated-4", "g6-nanode-1"]).startswith("g6-dedicated-4")
    assert linode.suggest("zzz", [f"a{n:02}" for n in range(20)]) == ", ".join(f"a{n:02}" for n in range(10)) + ", …"
