from __future__ import annotations

import base64
import logging
import os
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, MultiFernet

from miros_cache_net import limits
from miros_cache_net.errors import NotAuthentic, SettingsError, UnknownKey
from miros_cache_net.settings import Settings
from miros_cache_net.wire import keyring
from miros_cache_net.wire.keyring import KeyInfo, KeyRing, RingFile, generate_key, key_id, list_keys
from tests.threads import logged_here


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "keys"


@pytest.fixture
def old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as settled, whatever its times."""
    monkeypatch.setattr(keyring, "_SETTLED_NS", 0)


# --- the ring -------------------------------------------------------------------------------------


def test_the_first_key_encrypts_and_every_key_decrypts() -> None:
    first, second = generate_key(), generate_key()
    ring = KeyRing.from_keys([first, second.decode()])
    assert Fernet(first).decrypt(ring.encrypt(b"text")) == b"text"
    for key in (first, second):
        assert ring.decrypt(Fernet(key).encrypt(b"text")) == b"text"


def test_ring_and_multi_fernet_read_each_other() -> None:
    keys = [generate_key() for _ in range(3)]
    multi = MultiFernet([Fernet(key) for key in keys])
    ring = KeyRing.from_keys(keys)
    assert ring.decrypt(multi.encrypt(b"text")) == b"text"
    assert multi.decrypt(ring.encrypt(b"text")) == b"text"


@pytest.mark.parametrize("hint", ["", "right", "wrong", "00000000", "x" * 1000, "\n"])
def test_a_hint_whatever_it_says_changes_no_result(hint: str) -> None:
    keys = [generate_key() for _ in range(3)]
    ring = KeyRing.from_keys(keys)
    hint = {"right": key_id(keys[2]), "wrong": key_id(keys[1])}.get(hint, hint)
    assert ring.decrypt(Fernet(keys[2]).encrypt(b"text"), hint) == b"text"
    with pytest.raises(NotAuthentic):
        ring.decrypt(Fernet(generate_key()).encrypt(b"text"), hint)


def test_unknown_key_is_named_beside_the_rings_keys() -> None:
    ours, theirs = generate_key(), generate_key()
    with pytest.raises(NotAuthentic) as caught:
        KeyRing.from_keys([ours]).decrypt(Fernet(theirs).encrypt(b"text"), key_id(theirs))
    assert key_id(theirs) in str(caught.value)
    assert key_id(ours) in str(caught.value)
    assert "key list" in str(caught.value)


def test_a_forged_hint_never_gets_into_the_message() -> None:
    token = Fernet(generate_key()).encrypt(b"text")
    with pytest.raises(NotAuthentic) as caught:
        KeyRing.from_keys([generate_key()]).decrypt(token, "\x1b[2Jdeadbee")
    assert "\x1b" not in str(caught.value)


def test_large_token_of_a_stranger_is_decoded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each time costs as much as a hash of it; 29 of 20 MiB kept a host's link busy for 17 s."""
    ring = KeyRing.from_keys([generate_key() for _ in range(limits.RING_KEYS)])
    token = Fernet(generate_key()).encrypt(b"x")
    decoded, real = [], base64.urlsafe_b64decode

    def decode(text: bytes) -> bytes:
        decoded.append(text)
        return real(text)

    monkeypatch.setattr(base64, "urlsafe_b64decode", decode)
    with pytest.raises(UnknownKey):
        ring.decrypt(token)
    assert decoded == [token]


def test_garbage_is_told_from_a_wrong_key() -> None:
    with pytest.raises(NotAuthentic, match="not encrypted in our format"):
        KeyRing.from_keys([generate_key()]).decrypt(b"\x80\x04\x95 a pickle")


def test_key_id_is_one_for_all_spellings() -> None:
    key = generate_key()
    assert re.fullmatch("[0-9a-f]{8}", key_id(key))
    assert key_id(key) == key_id(key.decode())
    last = b"AEIMQUYcgkosw048".index(key[42:43])
    respelled = key[:42] + b"BFJNRVZdhlptx159"[last : last + 1] + b"="
    assert Fernet(respelled).decrypt(Fernet(key).encrypt(b"x")) == b"x"
    assert key_id(respelled) == key_id(key)
    assert KeyRing.from_keys([key, respelled]).ids == (key_id(key),)


def test_a_ring_shows_ids_and_no_key() -> None:
    key = generate_key()
    ring = KeyRing.from_keys([key])
    assert ring.primary_id == ring.ids[0] == key_id(key)
    assert key.decode() not in repr(ring) + str(ring)
    assert key_id(key) in repr(ring)


@pytest.mark.parametrize(
    "keys", [[], ["short"], [b"x" * 44], [generate_key() + b"="], [generate_key().decode() + "\n"]]
)
def test_invalid_ring_is_refused_without_being_shown(keys: list[str | bytes]) -> None:
    with pytest.raises(SettingsError) as caught:
        KeyRing.from_keys(keys)
    assert not any(str(key) in str(caught.value) for key in keys)


# --- the file -------------------------------------------------------------------------------------


def test_new_file_is_private_whatever_the_umask(path: Path) -> None:
    old = os.umask(0)
    try:
        made = keyring.new_key(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list_keys(path) == [KeyInfo(made, True)]
    assert [each.name for each in path.parent.iterdir()] == ["keys"]


def test_further_key_comes_last_unless_it_encrypts(path: Path) -> None:
    first, last = keyring.new_key(path), keyring.new_key(path)
    head = keyring.new_key(path, primary=True)
    assert list_keys(path) == [KeyInfo(head, True), KeyInfo(first, False), KeyInfo(last, False)]


def test_promoted_key_encrypts_and_others_keep_their_order(path: Path) -> None:
    a, b, c = (keyring.new_key(path) for _ in range(3))
    keyring.promote(path, c)
    assert [each.key_id for each in list_keys(path)] == [c, a, b]
    keyring.promote(path, c)
    assert [each.key_id for each in list_keys(path)] == [c, a, b]


def test_removed_key_is_gone_unless_the_last(path: Path) -> None:
    a, b = keyring.new_key(path), keyring.new_key(path)
    keyring.remove(path, a)
    assert [each.key_id for each in list_keys(path)] == [b]
    with pytest.raises(SettingsError, match=f"{b} is the last key"):
        keyring.remove(path, b)
    assert [each.key_id for each in list_keys(path)] == [b]


@pytest.mark.parametrize("change", [keyring.promote, keyring.remove])
def test_unknown_id_is_refused_with_known_ids(change: Callable[[Path, str], None], path: Path) -> None:
    made = keyring.new_key(path)
    keyring.new_key(path)
    with pytest.raises(SettingsError, match=f"no key 'deadbeef'; it holds {made}"):
        change(path, "deadbeef")


def test_a_full_ring_takes_no_further_key(path: Path) -> None:
    for _ in range(limits.RING_KEYS):
        keyring.new_key(path)
    before = path.read_bytes()
    with pytest.raises(SettingsError, match="the maximum"):
        keyring.new_key(path)
    assert path.read_bytes() == before


def test_comments_stay_and_go_where_their_key_goes(path: Path) -> None:
    path.parent.mkdir()
    a, b = generate_key().decode(), generate_key().decode()
    path.write_text(f"# ours\n\n# of May\n{a}\n# of June\n# late\n{b}  # bob's\n\n# the end\n")
    path.chmod(0o600)
    keyring.promote(path, key_id(b))
    assert path.read_text() == f"# ours\n\n# of June\n# late\n{b}  # bob's\n# of May\n{a}\n\n# the end\n"
    keyring.remove(path, key_id(b))
    assert path.read_text() == f"# ours\n\n# of May\n{a}\n\n# the end\n"


@pytest.mark.parametrize(
    "change", [keyring.new_key, lambda path: keyring.promote(path, "00000000")], ids=["new", "promote"]
)
def test_malformed_file_is_named_and_left_alone(change: Callable[[Path], object], path: Path) -> None:
    keyring.new_key(path)
    path.write_text(path.read_text() + "almost a key\n")
    before = path.read_bytes()
    with pytest.raises(SettingsError, match="line 2: not a Fernet key") as caught:
        change(path)
    assert "almost" not in str(caught.value)
    assert path.read_bytes() == before


def test_file_behind_a_link_is_changed_in_place(path: Path, tmp_path: Path) -> None:
    keyring.new_key(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    keyring.new_key(link)
    assert link.is_symlink()
    assert len(list_keys(path)) == 2


def test_unwritable_place_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"key file .* cannot be changed: (Not a directory|File exists)"):
        keyring.new_key(tmp_path / "file" / "keys")
    with pytest.raises(SettingsError, match="cannot be changed: No such file or directory"):
        keyring.remove(tmp_path / "nowhere" / "keys", "00000000")
    with pytest.raises(SettingsError, match=r"no key configured: .*does not exist"):
        keyring.remove(tmp_path / "keys", "00000000")


def test_failed_change_leaves_the_file_and_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring.new_key(path)
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match="No space left on device"):
        keyring.new_key(path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["keys"]


def test_commands_at_the_same_time_lose_no_key(path: Path) -> None:
    made: list[str] = []
    start = threading.Barrier(limits.RING_KEYS)

    def make() -> None:
        start.wait()
        made.append(keyring.new_key(path))

    threads = [threading.Thread(target=make) for _ in range(limits.RING_KEYS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each.key_id for each in list_keys(path)} == set(made)
    assert len(made) == limits.RING_KEYS


# --- rotation -------------------------------------------------------------------------------------


def test_a_running_ring_follows_its_file(path: Path) -> None:
    first = keyring.new_key(path)
    ring = RingFile(path)
    assert ring().ids == (first,)
    second = keyring.new_key(path)
    assert ring().ids == (first, second)
    keyring.promote(path, second)
    assert ring().primary_id == second
    keyring.remove(path, first)
    assert ring().ids == (second,)


def test_changes_within_one_file_time_are_seen(path: Path) -> None:
    keyring.new_key(path)
    ring = RingFile(path)
    for _ in range(50):  # far faster than a file's times move on, and every text is of one length
        key = generate_key()
        path.write_bytes(key + b"\n")
        assert ring().ids == (key_id(key),)


@pytest.mark.usefixtures("old_files")
def test_settled_file_is_not_read_until_it_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring.new_key(path)
    ring = RingFile(path)
    before = ring()
    with monkeypatch.context() as patch:
        patch.setattr(keyring, "read_private", lambda _path: pytest.fail("read again"))
        assert ring() is before
    second = keyring.new_key(path)
    assert second in ring().ids


@pytest.mark.usefixtures("old_files")
@pytest.mark.parametrize("harm", ["malformed", "empty", "gone", "open to others", "directory"])
def test_file_gone_bad_is_reported_once(harm: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = keyring.new_key(path)
    text = path.read_bytes()
    ring = RingFile(path)
    if harm in ("malformed", "empty"):
        path.write_bytes(b"almost a key" if harm == "malformed" else b"")
    elif harm == "open to others":
        path.chmod(0o644)
    else:
        path.unlink()
        if harm == "directory":
            path.mkdir()
    with caplog.at_level(logging.INFO):
        assert [ring().ids for _ in range(5)] == [(made,)] * 5
    assert isinstance(ring.trouble, SettingsError)
    assert [record.levelname for record in logged_here(caplog)] == ["ERROR"]
    assert "almost" not in caplog.text
    if harm == "directory":
        path.rmdir()
    path.write_bytes(text)
    path.chmod(0o600)
    os.utime(path, ns=(1, 1))  # so that its times tell it from what it was, however fast this test is
    assert ring().ids == (made,)
    assert ring.trouble is None


@pytest.mark.usefixtures("old_files")
def test_bad_file_is_not_read_until_it_changes(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring.new_key(path)
    ring = RingFile(path)
    path.write_bytes(b"almost a key")
    ring()
    with monkeypatch.context() as patch:
        patch.setattr(keyring, "read_private", lambda _path: pytest.fail("read again"))
        ring()
    path.write_bytes(b"almost a key, but another one")
    ring()
    assert len(logged_here(caplog)) == 1
    path.write_bytes(b"# none")
    ring()
    assert len(logged_here(caplog)) == 2


def test_half_written_file_is_no_trouble(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = keyring.new_key(path)
    text = path.read_bytes()
    ring = RingFile(path)
    path.write_bytes(text[:20])
    assert ring().ids == (made,)
    path.write_bytes(text)
    assert ring().ids == (made,)
    assert ring.trouble is None
    assert not logged_here(caplog)


def test_a_start_without_a_usable_ring_is_refused(path: Path) -> None:
    with pytest.raises(SettingsError, match="key new"):
        RingFile(path)


def test_a_rotation_says_ids_and_no_key(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keyring.new_key(path)
    ring = RingFile(path)
    second = keyring.new_key(path)
    with caplog.at_level(logging.INFO):
        ring()
    assert second in caplog.text
    assert not any(line in caplog.text for line in path.read_text().split())


def test_messages_pass_at_every_step_of_a_rotation(tmp_path: Path) -> None:
    alpha, beta = tmp_path / "alpha" / "keys", tmp_path / "beta" / "keys"
    old = keyring.new_key(alpha)
    beta.parent.mkdir()

    def copy_to_beta() -> None:
        beta.write_bytes(alpha.read_bytes())
        beta.chmod(0o600)

    copy_to_beta()
    rings = RingFile(alpha), RingFile(beta)

    def both_understand() -> bool:
        a, b = rings[0](), rings[1]()
        return b.decrypt(a.encrypt(b"x")) == a.decrypt(b.encrypt(b"x")) == b"x"

    new = keyring.new_key(alpha)
    assert both_understand()
    copy_to_beta()
    assert both_understand()
    keyring.promote(alpha, new)
    assert rings[0]().primary_id == new
    assert both_understand()
    keyring.promote(beta, new)
    assert both_understand()
    late = Fernet(alpha.read_text().split()[1]).encrypt(b"late")
    assert rings[0]().decrypt(late) == b"late"
    keyring.remove(alpha, old)
    with pytest.raises(NotAuthentic):
        rings[0]().decrypt(late, old)
    assert both_understand()


def test_settings_open_given_keys_or_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent.parent)
    key = generate_key()
    assert keyring.open_ring(Settings(keys=key))().ids == (key_id(key),)
    made = keyring.new_key(path)
    provider = keyring.open_ring(Settings(keys_file=path))
    assert provider().ids == (made,)
    second = keyring.new_key(path)
    assert provider().ids == (made, second)
