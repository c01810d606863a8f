"""The configuration of a fleet: what is read, and one sentence for everything that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet.config import _FILES, FleetConfig, ShowConfig, Tenant, check_show, read_config, to_show
from streaming.arguments import parse

SECRET = "live_8f3kq"
PLACE = f"rtmp://stream.example.org/live/{SECRET}"

GOOD = """
[fleet]
page = "http://127.0.0.1:0"
state = "memory://shows"
state_every_s = 1
lease_s = 3.5

[tenants.acme]
shows = 2
cpus = 5
gpus = 0.5

[shows.lobby]
tenant = "acme"
cpus = 2
gpus = 0.25
bundle = "bundles/landscape"
scene = "lake"
no_mark = true
control = { sway = 0.5 }
cue = ["20:scene=fog", "40:scene=lake"]
to = ["rtmp://stream.example.org/live/env:LOBBY_KEY"]

[shows.alone]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


def problem_of(**values: Any) -> str:
    """Return why a show cannot be made of these values."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        to_show("lobby", values, {"KEY": SECRET, "PLACE": PLACE})
    return str(caught.value)


def stream(name: str, *to: str, **values: Any) -> ShowConfig:
    return to_show(name, {"to": list(to), **values}, {})


def test_a_good_configuration_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOBBY_KEY", SECRET)
    config = read_config(write(tmp_path, GOOD))
    assert (config.page, config.state, config.state_every_s, config.lease_s) == (
        "http://127.0.0.1:0",
        "memory://shows",
        1.0,
        3.5,
    )
    assert config.tenants == {"acme": Tenant("acme", 2, 5.0, 0.5)}
    assert not config.problems
    lobby, alone = config.shows["lobby"], config.shows["alone"]
    assert (lobby.tenant, lobby.cpus, lobby.gpus, lobby.to) == ("acme", 2.0, 0.25, (PLACE,))
    assert (alone.tenant, alone.cpus, alone.gpus, alone.to, alone.keys) == ("", 1.0, 0.0, ("null",), ())


def test_what_is_left_out_has_the_documented_value(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, "[shows.lobby]\n"))
    assert config == FleetConfig(config.shows, {}, {}, "http://127.0.0.1:8080", "", 2.0, 5.0)
    assert config.shows["lobby"].bundle == "bundles/landscape"


def test_the_arguments_are_those_of_a_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOBBY_KEY", SECRET)
    options = parse(read_config(write(tmp_path, GOOD)).shows["lobby"].arguments)
    assert (options.to, options.bundle, options.scene) == ([PLACE], "bundles/landscape", "lake")
    assert (options.no_mark, options.control, options.cpu_share) == (True, [("sway", 0.5)], 2.0)
    assert [float(cue.at_s) for cue in options.cue] == [20.0, 40.0]


@pytest.mark.parametrize(
    ("values", "share"),
    [({"cpus": 0.01}, 0.001), ({"cpus": 0.5}, 0.001), ({"cpus": 1}, 0.001), ({"cpus": 4}, 4.0)],
)
def test_a_show_uses_the_cores_that_it_asks_for(values: dict[str, Any], share: float) -> None:
    assert parse(to_show("lobby", values, {}).arguments).cpu_share == share


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"scen": "lake"}, '[shows.lobby] has "scen": did you mean scene?'),
        ({"cpu": 2}, '[shows.lobby] has "cpu": did you mean cpus?'),
        ({"to=env:HOME": True}, 'has "to=env:HOME": there is no such option of everframe stream'),
        ({"sound=mic": True}, 'has "sound=mic": did you mean sound?'),
        ({"sign-key": "key.pem"}, 'has "sign-key": did you mean sign_key?'),
        ({"help": True}, 'has "help": there is no such option of everframe stream'),
        ({"cpus": 0}, "cpus is 0, expected a number from 0.01 to 1024"),
        ({"cpus": -1}, "cpus is -1, expected a number from 0.01 to 1024"),
        ({"cpus": float("nan")}, "cpus is nan, expected a number from 0.01 to 1024"),
        ({"cpus": True}, "cpus is True, expected a number from 0.01 to 1024"),
        ({"cpu_share": 3}, "has cpu_share: give the number of cores as cpus"),
        ({"gpus": "1"}, "gpus is '1', expected a number from 0 to 64"),
        ({"gpus": 65}, "gpus is 65, expected a number from 0 to 64"),
        ({"bundle": 5}, "bundle is 5, expected a text"),
        ({"bundle": ""}, 'bundle is "": name the folder of a bundle, or leave it out'),
        ({"tenant": 5}, "tenant is 5, expected a text"),
        ({"to": {"a": PLACE}}, "to must be a list of sinks, each a text"),
        ({"to": [PLACE, 5]}, "to must be a list of sinks, each a text"),
        ({"to": ["rtmp://h/live/env:NOWHERE"]}, "names the variable NOWHERE: set it where the fleet is started"),
        ({"to": [PLACE, PLACE]}, "is given twice"),
        ({"to": [f"rtmp://h:port/live/{SECRET}"]}, "is not a valid address: write rtmp://HOST[:PORT]/APP/KEY"),
        ({"to": [f"srt://h?streamid={SECRET}"]}, "it needs a host and a port"),
        ({"fps": 0}, "argument --fps: got '0', expected more than 0"),
        ({"seed": "x"}, "argument --seed: got 'x'"),
        ({"pixels": "rgb"}, "accepts i420, got --pixels rgb"),
        ({"log": "xml"}, "argument --log: invalid choice: 'xml'"),
    ],
)
def test_a_bad_show_is_one_sentence(values: dict[str, Any], told: str) -> None:
    problem = problem_of(**values)
    assert told in problem
    assert problem.startswith("[shows.lobby]")
    assert "\n" not in problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    "sink", ["clip.mp4", "night.m3u8", "http://0.0.0.0:8000", "webcam", "window", "-", "env:KEY", f"rtmp:/h/{SECRET}"]
)
def test_only_streams_move_between_machines(sink: str) -> None:
    problem = problem_of(to=["rtmp://h/live/other", sink])
    assert "to: sink 2 is no stream; a show that moves between machines sends to rtmp://, srt:// or whip://" in problem
    assert SECRET not in problem


@pytest.mark.parametrize("key", ["sound", "midi", "osc", "osc_out", "sign", "sign_key", "ledger"])
def test_what_belongs_to_one_machine_is_refused(key: str) -> None:
    problem = problem_of(**{key: "7000"})
    assert problem.startswith(f"[shows.lobby] has {key}: ")
    assert problem.endswith("does not move from machine to machine; leave it out")


@pytest.mark.parametrize(
    ("values", "key"),
    [
        *(({key: True if key == "trust_engines" else "/etc/passwd"}, key) for key in _FILES),
        ({"then": ["bundles/other"]}, "then"),
        ({"cue": "5:image=/etc/passwd"}, "image"),
        ({"cue": ["2:scene=fog", "5:clip=/etc/passwd"]}, "clip"),
        ({"cue": {"5:past": "/etc/passwd"}}, "past"),
        ({"cue": ["0.5:hints=/etc/passwd"]}, "hints"),
    ],
)
def test_the_api_names_no_files(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=rf"^\[shows.lobby\] has {key}, which is for the fleet's own file: start the"):
        to_show("lobby", values, {}, is_remote=True)


def test_the_api_takes_what_names_none() -> None:
    values = {"scene": "lake", "cue": ["5:text=a:image=b", "6:sway=0.5"], "control": {"sway": 0.5}, "seed": 7}
    assert parse(to_show("lobby", values, {}, is_remote=True).arguments).cue[0].value == "a:image=b"
    values = {"image": "photo.jpg", "cue": ["5:image=photo.jpg"]}
    assert parse(to_show("lobby", values, {}).arguments).cue[0].kind == "image", "the fleet's own file may"


@pytest.mark.parametrize("name", ["Lobby", "a b", "", "-a", "a" * 41, "../a", "lobby\n", "a.b"])
def test_a_bad_name_is_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="expected at most 40 small letters, digits and hyphens"):
        to_show(name, {}, {})


def test_variables_of_the_environment_fill_sinks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    show = to_show("lobby", {"to": "env:PLACE", "text": "env:PLACE"}, {"PLACE": PLACE})
    assert show.to == (PLACE,)
    assert parse(show.arguments).text == "env:PLACE"
    monkeypatch.setenv("PLACE", PLACE)
    with pytest.raises(ValueError, match="names the variable PLACE"):
        to_show("lobby", {"to": "env:PLACE"}, {})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rtmp://h/live/k", "rtmp://h/live/k"),
        ("rtmp://h/live/k", "rtmp://H/live/k"),
        ("rtmp://h/live/k", "RTMP://h./live/k/"),
        ("rtmp://h/live/k", "rtmp://h:1935/live/k"),
        ("rtmp://h/live/k", "rtmps://h/live/k"),
        ("rtmp://h/live/k", "rtmps://h:443/live/k"),
        ("rtmp://h/a/KEY", "rtmp://h/a/KEY?x=1"),
        ("rtmp://h/a/KEY", "rtmp://h/a/%4bEY"),
        ("rtmp://h/a/KEY", "rtmp://h/a//KEY"),
        ("rtmp://h/a/KEY", "rtmps://h/a/KEY"),
        ("rtmp://h/a/KEY", "rtmp://h:443/a/KEY"),
        ("srt://h:9000?streamid=#!::r=a", "SRT://H.:9000?latency=200&streamid=%23!::r=a"),
        ("srt://h:9000?streamid=k", "srt://h:9000?latency=200&streamid=k"),
        ("whip://token@h/publish", "whip://token@H:443/publish"),
        ("whip+http://h/publish", "whip+http://h:80/publish"),
    ],
)
def test_two_shows_on_one_stream_key_are_refused(one: str, other: str) -> None:
    first, second = stream("one", one), stream("two", other)
    with pytest.raises(ValueError, match="two streams to the same place and key as one: give each show a stream key"):
        check_show(second, [first], {})
    if one != other:
        with pytest.raises(ValueError, match="two streams twice to the same place and key: leave one out"):
            check_show(stream("two", one, other), [], {})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rtmp://h/live/k", "rtmp://h/live/K"),
        ("rtmp://h/live/k", "rtmp://h:1936/live/k"),
        ("rtmp://h/live/k", "rtmp://g/live/k"),
        ("srt://h:9000?streamid=k", "srt://h:9000?streamid=m"),
        ("srt://h:9000?streamid=#!::r=a", "srt://h:9000?streamid=#!::r=b"),
        ("srt://h:9000", "srt://h:9001"),
        ("whip://token@h/publish", "whip://other@h/publish"),
        ("null", "null"),
    ],
)
def test_shows_on_two_stream_keys_are_not(one: str, other: str) -> None:
    assert check_show(stream("two", other), [stream("one", one)], {}).name == "two"


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="there is a show one already: choose another name, or end that one"):
        check_show(stream("one", "null"), [stream("one", "null")], {})


@pytest.mark.parametrize(
    ("tenant", "told"),
    [
        (Tenant("acme", shows=1), "two would be over the limit of acme: 2 shows, 1 are allowed"),
        (Tenant("acme", cpus=3.5), "two would be over the limit of acme: 4 CPUs, 3.5 are allowed"),
        (Tenant("acme", gpus=0.5), "two would be over the limit of acme: 0.75 GPUs, 0.5 are allowed"),
    ],
)
def test_a_tenant_has_limits(tenant: Tenant, told: str) -> None:
    one = stream("one", "null", tenant="acme", cpus=1, gpus=0.25)
    two = stream("two", "null", tenant="acme", cpus=3, gpus=0.5)
    with pytest.raises(ValueError, match=told):
        check_show(two, [one], {"acme": tenant})
    assert check_show(two, [stream("one", "null", cpus=100, gpus=8)], {"acme": tenant}) is two, "of nobody"


def test_shares_add_up_to_a_limit() -> None:
    shows = [stream(name, "null", tenant="acme", gpus=0.1) for name in ("one", "two", "three")]
    assert 0.1 + 0.1 + 0.1 > 0.3
    assert check_show(shows[2], shows[:2], {"acme": Tenant("acme", gpus=0.3)}) is shows[2]
    with pytest.raises(ValueError, match=r"over the limit of acme: 0\.3 GPUs, 0\.29 are allowed"):
        check_show(shows[2], shows[:2], {"acme": Tenant("acme", gpus=0.29)})


def test_an_unknown_tenant_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"one is of acne, which is not in \[tenants\]: add it, or correct the name"):
        check_show(stream("one", "null", tenant="acne"), [], {"acme": Tenant("acme")})


def test_a_bad_show_leaves_the_others(tmp_path: Path) -> None:
    text = f"""
[tenants.acme]
shows = 1
[shows.first]
tenant = "acme"
to = "{PLACE}"
[shows.typing]
scen = "lake"
[shows.same]
to = "{PLACE.replace("stream.", "STREAM.")}"
[shows.many]
tenant = "acme"
[shows.Bad]
[shows.last]
"""
    config = read_config(write(tmp_path, text))
    assert list(config.shows) == ["first", "last"]
    assert list(config.problems) == ["typing", "same", "many", "Bad"]
    assert all("\n" not in problem and SECRET not in problem for problem in config.problems.values())
    assert SECRET not in repr(config)
    assert list(read_config(write(tmp_path, "shows.value = 5\nshows.last = {}")).problems) == ["value"]


def test_no_stream_key_is_shown() -> None:
    show = to_show("lobby", {"to": [PLACE], "input": f"rtsp://user:{SECRET}@camera/1"}, {})
    assert SECRET not in repr(show)
    assert not any(SECRET in key for key in show.keys)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("shows = [", "is not TOML: "),
        ("", "has no shows: add a table such as [shows.lobby]"),
        ("[fleet]\npage = 'http://127.0.0.1:0'", "has no shows"),
        ("[show.lobby]", 'has "show": did you mean shows?'),
        ("[fleet]\npages = 'x'\n[shows.a]", '[fleet] has "pages": did you mean page?'),
        ("fleet = 5\n[shows.a]", "[fleet] is 5, expected a table"),
        ("shows = 5", "[shows] is 5, expected a table"),
        ("tenants = 5\n[shows.a]", "[tenants] is 5, expected a table"),
        ("tenants.acme = 5\n[shows.a]", "[tenants.acme] is 5, expected a table"),
        ("[tenants.acme]\nshow = 1\n[shows.a]", '[tenants.acme] has "show": did you mean shows?'),
        ("[tenants.acme]\nshows = 2.5\n[shows.a]", "[tenants.acme] shows is 2.5, expected a whole number"),
        ("[tenants.acme]\ncpus = -1\n[shows.a]", "[tenants.acme] cpus is -1, expected a number from 0 to 1e+06"),
        ("[fleet]\npage = 5\n[shows.a]", "[fleet] page is 5, expected a text"),
        ("[fleet]\nstate = 5\n[shows.a]", "[fleet] state is 5, expected a text"),
        ("[fleet]\nlease_s = 1\n[shows.a]", "[fleet] lease_s is 1, expected a number from 2 to 60"),
        ("[fleet]\nlease_s = inf\n[shows.a]", "[fleet] lease_s is inf, expected a number from 2 to 60"),
        ("[fleet]\nstate_every_s = 0\n[shows.a]", "[fleet] state_every_s is 0, expected a number from 0.1 to 60"),
        ("[fleet]\nstate_every_s = '2'\n[shows.a]", "[fleet] state_every_s is '2', expected a number"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        read_config(write(tmp_path, text))
    assert told in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    for path, told in ((tmp_path / "no.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ValueError, match=f"cannot be read: {told}"):
            read_config(path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"bytes\.toml cannot be read: "):
        read_config(tmp_path / "bytes.toml")
