from __future__ import annotations

from pathlib import Path

import pytest

from ihp_backend.settings import Settings, SettingsError


def test_defaults_without_variables() -> None:
    settings = Settings.from_environment({"PATH": "/bin"})
    assert settings == Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 9090)


def test_every_kind_of_value_is_read() -> None:
    settings = Settings.from_environment(
        {
            "IHP_PORT": "0",
            "IHP_FETCH_TIMEOUT_S": "2.5",
            "IHP_ALLOW_ANONYMOUS": "Yes",
            "IHP_ALLOWED_HOSTS": "a.example, *.B.example:9000, [::1], *,",
            "IHP_DATA_DIR": "/tmp/x",
            "IHP_LOCAL_FILES_ROOT": "/data",
        }
    )
    assert settings.port == 0
    assert settings.fetch_timeout_s == 2.5
    assert settings.allow_anonymous is True
    assert settings.allowed_hosts == ("a.example", "*.b.example:9000", "[::1]", "*")
    assert settings.data_dir == Path("/tmp/x")
    assert settings.local_files_root == Path("/data")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("IHP_PORT", "http", "a whole number"),
        ("IHP_PORT", "70000", "0 to 65535"),
        ("IHP_THREADS", "-1", "0 to 256"),
        ("IHP_FETCH_TIMEOUT_S", "nan", "0.01 to 600"),
        ("IHP_FETCH_TIMEOUT_S", "inf", "0.01 to 600"),
        ("IHP_ALLOWED_HOSTS", "a.example,https://b.example/", "a.example:9000"),
        ("IHP_ALLOW_ANONYMOUS", "maybe", "true or false"),
        ("IHP_DEVICE", "gpu", "auto, cpu, cuda"),
        ("IHP_LOG_LEVEL", "loud", "DEBUG"),
        ("IHP_LABEL_STUDIO_URL", "localhost:8080", "http://"),
        ("IHP_LABEL_STUDIO_URL", "http://localhost:80800", "http://"),
        ("IHP_LABEL_STUDIO_URL", "http://[::1", "http://"),
        ("IHP_LABEL_STUDIO_URL", "http://local host:8080", "http://"),
        ("IHP_BASIC_AUTH_USER", "me", "IHP_BASIC_AUTH_PASSWORD"),
        ("IHP_PROT", "1", "IHP_PORT"),
        ("IHP_PORT_FILE", "/tmp/port", "only tokens, passwords"),
        ("IHP_LABEL_STUDIO_TOKEN_FILE", "/nowhere/token", "cannot be read"),
    ],
)
def test_an_error_names_the_variable_and_what_was_expected(name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_environment({name: value})
    assert name in str(error.value)
    assert expected in str(error.value)


def test_a_secret_that_windows_wrote_in_utf_16_is_explained(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret", encoding="utf-16")
    with pytest.raises(SettingsError, match=r"IHP_LABEL_STUDIO_TOKEN_FILE.*token is not text in UTF-8"):
        Settings.from_environment({"IHP_LABEL_STUDIO_TOKEN_FILE": str(tmp_path / "token")})


def test_a_secret_that_windows_wrote_in_utf_8(tmp_path: Path) -> None:
    """With a byte order mark, which is no part of a token."""
    (tmp_path / "token").write_text("s3cret\r\n", encoding="utf-8-sig")
    settings = Settings.from_environment({"IHP_LABEL_STUDIO_TOKEN_FILE": str(tmp_path / "token")})
    assert settings.label_studio_token == "s3cret"


def test_secrets_come_from_files_and_stay_out_of_the_repr(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    settings = Settings.from_environment({"IHP_LABEL_STUDIO_TOKEN_FILE": str(tmp_path / "token")})
    assert settings.label_studio_token == "s3cret"
    assert "s3cret" not in repr(settings)
    with_password = Settings(basic_auth_user="u", basic_auth_password="pa55")
    assert "pa55" not in repr(with_password)


def test_the_queues_password_comes_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("redis://:s3cret@queue:6379/0\n")
    settings = Settings.from_environment({"IHP_QUEUE_URL_FILE": str(tmp_path / "queue")})
    assert settings.queue_url == "redis://:s3cret@queue:6379/0"


def test_a_secret_that_is_empty_or_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    there = {"IHP_LABEL_STUDIO_TOKEN_FILE": str(tmp_path / "token")}
    with pytest.raises(SettingsError, match="is empty"):
        Settings.from_environment(there)
    (tmp_path / "token").write_text("abc")
    for environ in (there | {"IHP_LABEL_STUDIO_TOKEN": "x"}, {"IHP_LABEL_STUDIO_TOKEN": "x"} | there):
        with pytest.raises(SettingsError, match="both set"):
            Settings.from_environment(environ)


def test_a_data_folder_in_which_nothing_can_be_kept_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"IHP_DATA_DIR is .*file/x.*Not a directory"):
        Settings(data_dir=tmp_path / "file/x").make_data_dir()
    Settings(data_dir=tmp_path / "a/b").make_data_dir()
    assert list((tmp_path / "a/b").iterdir()) == []


def test_the_table_has_every_option() -> None:
    assert Settings.table().count("`IHP_") == len(Settings.__dataclass_fields__)


def test_the_documented_table_is_the_real_one() -> None:
    documented = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()
    assert Settings.table() in documented


def test_blanks_around_label_studios_address_go() -> None:
    assert (
        Settings.from_environment({"IHP_LABEL_STUDIO_URL": " http://a.example\n"}).label_studio_url
        == "http://a.example"
    )
