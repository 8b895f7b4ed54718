"""Messages of a sweep to a user's hook, which is a real server or a real program."""

import json
import sys
import time
from pathlib import Path

import pytest
from hook_server import HookServer

from sweeps.driver import notify
from sweeps.driver.notify import Notifier
from sweeps.spec.model import Spec
from sweeps.tracking.attachments import write_sweep


def tell(hook: str, *, say: list[str] | None = None) -> None:
    """Send a failure whose text has a password, and the end."""
    lines = [] if say is None else say
    notifier = Notifier(hook, sweep="nightly", say=lines.append)
    notifier.start()
    notifier.tell("failure", "no answer from postgresql://me:hunter2@host/db")
    notifier.close("3 of 4 trials done")


def test_url_gets_each_message_as_json_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    with HookServer() as server:
        monkeypatch.setenv("CHAT_HOOK", server.url)
        tell("$CHAT_HOOK")
        assert server.events() == ["failure", "end"]
        first, last = server.messages
    assert first["sweep"] == "nightly"
    assert "postgresql://me:***@host/db" in first["text"]
    assert last["text"] == "nightly: end: 3 of 4 trials done"


def test_command_gets_each_message_on_its_input_and_no_shell_reads_it(tmp_path: Path) -> None:
    program = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    tell(f"{sys.executable} -c \"{program}\" '{tmp_path}/a $(touch x)'")
    lines = (tmp_path / "a $(touch x)").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["failure", "end"]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("$NOT_THERE", "expected the variable NOT_THERE in the environment"),
        ("/no/such/program", "FileNotFoundError"),
        (f"{sys.executable} -c 'raise SystemExit(\"no chat\")'", "ended with code 1: no chat"),
        ("http://127.0.0.1:9/hook-of-mine", "Connection refused"),
        ("unclosed 'quote", "No closing quotation"),
    ],
)
def test_hook_that_fails_is_told_once_and_without_its_url(
    hook: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    said: list[str] = []
    tell(hook, say=said)
    (line,) = said
    assert line.startswith("warning: notify: ")
    assert reason in line
    assert "hook-of-mine" not in line


@pytest.mark.parametrize(
    "url",
    ["chat.example/services/T0/hidden", "http://chat.example/services/T0/hidden with a space"],
)
@pytest.mark.parametrize("hook", ["$CHAT_HOOK", "sh -c 'echo $CHAT_HOOK >&2; exit 3'"])
def test_secret_of_a_variable_is_in_no_line_whatever_fails(
    hook: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_HOOK", url)
    said: list[str] = []
    tell(hook, say=said)
    (line,) = said
    assert "hidden" not in line


def test_server_that_hangs_or_refuses_costs_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "HOOK_S", 0.2)
    monkeypatch.setattr(notify, "LAST_S", 5.0)
    with HookServer() as server:
        server.hangs.set()
        said: list[str] = []
        begin = time.monotonic()
        tell(server.url, say=said)
        assert time.monotonic() - begin < notify.LAST_S
        server.hangs.clear()
        server.code = 500
        # Time enough for an answer on a busy machine.
        monkeypatch.setattr(notify, "HOOK_S", 5.0)
        tell(server.url, say=said)
    assert ["took longer" in said[0], "HTTP" in said[1] or "Internal" in said[1]] == [True, True]
    assert "secret-path" not in "".join(said)


def test_hook_is_not_in_the_record_of_the_sweep(tmp_path: Path) -> None:
    hook = "https://chat.example/hooks/T0/secret"
    spec = Spec(name="nightly", question="Who knows?", baseline={}, notify=hook)
    write_sweep(spec, {}, tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(b"secret" in path.read_bytes() for path in files)


def test_failures_without_end_send_a_bounded_number_and_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notify, "MOST", 3)
    with HookServer() as server:
        notifier = Notifier(server.url, sweep="nightly", say=print)
        notifier.start()
        for _ in range(10):
            notifier.tell("failure", "again")
        notifier.close("over")
        assert server.events() == ["failure"] * 3 + ["end"]
