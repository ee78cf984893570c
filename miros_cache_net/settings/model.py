"""Every setting of the project, as one frozen, typed value.

Sources, in ascending precedence: defaults, a TOML file, `.env` and the environment, arguments.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from miros_cache_net import limits
from miros_cache_net.errors import SettingsError
from miros_cache_net.settings import key_file, parsing
from miros_cache_net.settings.broker_address import BrokerAddress
from miros_cache_net.settings.found import DEFAULT_PASSWORD, check_secrets
from miros_cache_net.settings.networks import LOOPBACK, Network
from miros_cache_net.settings.sources import (
    Env,
    EnvironmentSource,
    SettingDescription,
    TomlSource,
    describe_field,
    one_key_source,
    one_line,
)
from miros_cache_net.settings.which_file import DEFAULT_FILE

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Word = Annotated[str, BeforeValidator(parsing.as_place_word)]
NeededWord = Annotated[str, BeforeValidator(parsing.as_needed_word)]
AbsolutePath = Annotated[Path, BeforeValidator(parsing.as_path)]

_NO_NAME: Final = "must be given, because the cache file's name cannot be used: it {}"


class Settings(BaseSettings):
    """Typed settings.  Neither `str`, `repr` nor a dump shows a secret.

    The constructor raises `SettingsError`, with one line that names the setting and the remedy.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)

    rabbit_user: Annotated[Word, Env(("RABBIT_USER",))] = Field(
        "guest", description="User for broker URLs that name none.", examples=["guest"]
    )
    rabbit_password: Annotated[SecretStr, Env(("RABBIT_PASSWORD",), from_file=True)] = Field(
        SecretStr(DEFAULT_PASSWORD), description="Password for broker URLs that contain none."
    )
    rabbit_port: Annotated[int, Env(("RABBIT_PORT",))] = Field(
        5672, ge=1, le=65535, description="Port of the default broker.", examples=["5672"]
    )
    amqp_urls: Annotated[
        tuple[InstanceOf[BrokerAddress], ...],
        Env(("MIROS_CACHE_AMQP_URL",), from_file=True, default_text="amqp://localhost:5672"),
    ] = Field(
        (),
        description="RabbitMQ brokers of one cluster, separated by commas, tried in turn; amqps:// for TLS.",
    )
    keys: Annotated[tuple[SecretStr, ...], Env(("MIROS_CACHE_KEYS", "MESH_ENCRYPTION_KEY"))] = Field(
        (), description="Fernet keys, separated by commas or lines; the first encrypts, all decrypt."
    )
    keys_file: Annotated[
        AbsolutePath | None,
        Env(("MIROS_CACHE_KEYS_FILE", "MESH_ENCRYPTION_KEY_FILE"), default_text="~/.config/miros-cache-net/keys"),
    ] = Field(
        default_factory=parsing.default_keys_file,
        description="File of Fernet keys, one per line, closed to other users; used if no keys are given directly.",
        examples=["/etc/miros-cache-net/keys"],
    )
    file: Annotated[Path, BeforeValidator(parsing.as_cache_file), Env(default_text=DEFAULT_FILE)] = Field(
        Path(DEFAULT_FILE), description="The cache file; relative to the working directory.", examples=[DEFAULT_FILE]
    )
    scope: NeededWord = Field(
        "fleet",
        description="Hosts of one scope share their documents. At a named site the default is this machine's "
        "network, e.g. `192.168.1.0%2F24`.",
        examples=["fleet"],
    )
    site: Word = Field(
        "", description="Name of this site; separates private networks with the same addresses.", examples=["lab"]
    )
    document: Annotated[Word, Env(default_text="base name of the cache file")] = Field(
        "",
        description="The name of the document in `file` within its scope, the same on every host.",
        examples=["peers"],
    )
    exchange: NeededWord = Field(
        "miros.cache.exchange", description="Topic exchange that carries the caches.", examples=["miros.cache.exchange"]
    )
    node_name: Annotated[str, BeforeValidator(parsing.as_node_name), Env(default_text="host name, lower-case")] = Field(
        default_factory=parsing.host_node_name,
        description="This host's name in stamps and status; eight random digits per cache file are added to it there.",
        examples=["alpha"],
    )
    trusted_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], Env(default_text="127.0.0.0/8,::1/128")] = Field(
        LOOPBACK,
        description="Networks whose peers may get the password without TLS; `auto` adds loopback and this "
        "machine's own subnets.",
        examples=["192.168.1.0/24,auto"],
    )
    trust_own_subnets: Annotated[bool, Env(())] = Field(
        False, description="Whether `auto` was among the trusted networks."
    )
    scout_timeout_s: Seconds = Field(2.0, description="How long a scout tries one address.", examples=["2"])
    sweep_prefix: Annotated[int, BeforeValidator(parsing.as_prefix)] = Field(
        22,
        ge=limits.SWEEP_PREFIX,
        le=32,
        description="The largest IPv4 network that a discovery sweeps, as its prefix length; in larger ones it tries "
        "only known neighbours.",
        examples=["22"],
    )
    discover: tuple[str, ...] = Field(
        (),
        description="Where `miros-cache-net node` looks, to keep the LAN document young: hosts, separated by commas; "
        "`auto`: this machine's networks.",
        examples=["auto"],
    )
    hosts_file: AbsolutePath | None = Field(
        None,
        description='File of hosts to look for, `{"hosts": [...]}`.',
        examples=["/etc/miros-cache-net/hosts.json"],
    )
    time_out_in_minutes: Annotated[float, Field(gt=0, le=limits.TIME_OUT_MINUTES, allow_inf_nan=False)] = Field(
        30.0, description="How long a discovery's result counts as young.", examples=["30"]
    )
    answer_timeout_s: Seconds = Field(
        1.0, description="How long one peer has to answer before another is asked.", examples=["1"]
    )
    digest_interval_s: Seconds = Field(
        30.0, description="Mean time between the digests that repair losses; the same on all hosts.", examples=["30"]
    )
    take_over_after_s: Seconds = Field(
        limits.TAKE_OVER_AFTER_S,
        description="How long until an un-writable file that no process locks counts as abandoned.",
        examples=["10"],
    )
    heartbeat_s: Annotated[int, Env(("MIROS_CACHE_HEARTBEAT_S", "RABBIT_HEARTBEAT_INTERVAL"))] = Field(
        10, ge=0, le=65535, description="AMQP heartbeat; a dead link is noticed within two intervals, 0: never."
    )
    connection_attempts: Annotated[int, Env(("MIROS_CACHE_CONNECTION_ATTEMPTS", "CONNECTION_ATTEMPTS"))] = Field(
        1, ge=1, le=1000, description="Attempts at one broker before the next in the list.", examples=["1"]
    )
    tls_ca_file: Annotated[Path, BeforeValidator(parsing.as_existing_file)] | None = Field(
        None,
        description="CA certificates for the broker's certificate; the system's if not given.",
        examples=["/etc/ssl/ca.pem"],
    )
    tls_verify: bool = Field(True, description="Check the broker's certificate and host name.", examples=["true"])
    tls_certificate_file: Annotated[Path, BeforeValidator(parsing.as_existing_file)] | None = Field(
        None,
        description="Client certificate for brokers that require one.",
        examples=["/etc/miros-cache-net/client.pem"],
    )
    tls_key_file: Annotated[Path, BeforeValidator(parsing.as_existing_file)] | None = Field(
        None,
        description="Private key of the client certificate, unencrypted; in the certificate's file if not given.",
        examples=["/etc/miros-cache-net/client.key"],
    )
    external_login: bool = Field(
        False,
        description="Log in as the user that the client certificate names (EXTERNAL), without user and password.",
        examples=["false"],
    )
    snoop_trace_key: Annotated[SecretStr, Env(("SNOOP_TRACE_ENCRYPTION_KEY",), from_file=True)] = Field(
        SecretStr(""), description="Mesh: Fernet key of the trace network; the mesh's own if not given."
    )
    snoop_spy_key: Annotated[SecretStr, Env(("SNOOP_SPY_ENCRYPTION_KEY",), from_file=True)] = Field(
        SecretStr(""), description="Mesh: Fernet key of the spy network; the mesh's own if not given."
    )
    mesh: bool = Field(
        False,
        description="Mesh: whether nodes take part in that of unmodified `miros-rabbitmq` programs.",
        examples=["on"],
    )
    mesh_key: Annotated[SecretStr, Env(("MESH_ENCRYPTION_KEY",))] = Field(
        SecretStr(""), description="Mesh: Fernet key of the old programs; the fleet's ring if not given."
    )
    mesh_key_file: Annotated[AbsolutePath | None, Env(("MESH_ENCRYPTION_KEY_FILE",))] = Field(
        None,
        description="Mesh: file of that key, in the form of `keys_file`.",
        examples=["/etc/miros-cache-net/mesh-keys"],
    )
    mesh_tx_routing_key: Word = Field(
        "empty", description="Mesh: routing key of what is sent to old programs.", examples=["empty"]
    )
    mesh_rx_routing_key: Word = Field(
        "#", description="Mesh: routing keys of what is heard from them: words, `*` and `#`.", examples=["#"]
    )
    mesh_sender: Annotated[str, BeforeValidator(parsing.as_ipv4)] = Field(
        "",
        description="Mesh: the IPv4 address under which `miros-rabbitmq` programs list this broker, if it differs "
        "from the one that is dialled.",
        examples=["192.168.1.75"],
    )
    mesh_token_age_s: Seconds = Field(
        300.0, description="Mesh: how old a message may be, by the clocks of both hosts.", examples=["300"]
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(lambda text: str(text).upper())
    ] = Field("WARNING", description="What the commands log, to standard error.", examples=["INFO"])
    log_format: Annotated[Literal["text", "json"], BeforeValidator(lambda text: str(text).lower())] = Field(
        "text",
        description="How they write a line of it: for people, or as one JSON object with the same fields for all.",
        examples=["json"],
    )

    _document_is_argument: bool = PrivateAttr(False)
    _keys_refused: str = PrivateAttr("")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**one_key_source(values))
            self._document_is_argument = bool(values.get("document"))
            self._keys_refused = check_secrets(self, values)
            return
        except ValidationError as error:
            details: Any = error.errors(include_url=False, include_input=False)[0]
        # Outside the handler: pydantic's error contains the values and must not become this error's context.
        raise SettingsError(one_line(type(self), details, values))

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Settings from all sources; `overrides` take precedence, and an override of None counts as not given."""
        return cls(**{name: value for name, value in overrides.items() if value is not None})

    def for_file(self, path: Path) -> Settings:
        """These settings for the cache file at `path` (from `which_file.cache_path`): sets `file` and `document`.

        A document given as an argument applies to any file that these settings are passed with.  Any other document
        name belongs to the settings' own file, and another file's document gets that file's base name.  Raises
        `SettingsError` for a file whose name cannot be a document's name.
        """
        if path == self.file:
            return self
        name = self.document if self._document_is_argument else path.name
        try:
            return self.model_copy(update={"file": path, "document": parsing.as_needed_word(name)})
        except ValueError as error:
            raise SettingsError(f"{path}: the setting `document` {_NO_NAME.format(error)}") from None

    def load_keys(self) -> tuple[bytes, ...]:
        """The keys of the key ring, the encrypting one first: those given directly, else the key file's.

        Raises `SettingsError` if there are none, or if they are malformed or open to other users.
        """
        self.check_keys_may_be_used()
        if not self.keys:
            return key_file.read_keys(self.keys_path)
        given = (key.get_secret_value() for key in self.keys)
        keys = {key_file.canonical_key(key, f"MIROS_CACHE_KEYS, key {n}"): None for n, key in enumerate(given, 1)}
        return key_file.checked_ring(keys, "MIROS_CACHE_KEYS")

    @property
    def keys_path(self) -> Path:
        """The path of the key file.  Raises `SettingsError` if none is named and there is no home directory."""
        if self.keys_file is None:
            raise SettingsError(
                "no key configured, and there is no home directory for a key file: set MIROS_CACHE_KEYS, or name a "
                "file with MIROS_CACHE_KEYS_FILE"
            )
        return self.keys_file

    def check_keys_may_be_used(self) -> None:
        """Raise `SettingsError` if keys from elsewhere would be used for a broker that only a found file names."""
        if self._keys_refused:
            raise SettingsError(self._keys_refused)

    @classmethod
    def describe(cls) -> list[SettingDescription]:
        """Every setting, for documentation and commands."""
        return [describe_field(name, field) for name, field in cls.model_fields.items()]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, EnvironmentSource(settings_cls), TomlSource(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _auto(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Replace the word `auto` among the networks with the flag, and add loopback."""
        try:
            given = parsing.as_list(values.get("trusted_networks", ()))
        except ValueError:
            return values  # the field's own validator reports it by name
        if parsing.AUTO not in given:
            return values
        named = [item for item in given if item != parsing.AUTO]
        return {**values, "trusted_networks": [*named, *LOOPBACK], "trust_own_subnets": True}

    @field_validator("amqp_urls", mode="before")
    @classmethod
    def _brokers(cls, value: Any, info: ValidationInfo) -> tuple[BrokerAddress, ...]:
        user, password = info.data.get("rabbit_user", ""), info.data.get("rabbit_password", SecretStr(""))
        items = parsing.as_list(value) or [f"amqp://localhost:{info.data.get('rabbit_port', 5672)}"]
        try:
            brokers = [item if isinstance(item, BrokerAddress) else BrokerAddress.parse(str(item)) for item in items]
        except SettingsError as error:
            raise ValueError(str(error)) from None
        return tuple(broker.with_credentials(user, password.get_secret_value()) for broker in brokers)

    @field_validator("rabbit_password")
    @classmethod
    def _unicode(cls, value: SecretStr) -> SecretStr:
        parsing.as_unicode(value.get_secret_value())
        return value

    @field_validator("keys", mode="before")
    @classmethod
    def _split_keys(cls, value: Any) -> list[Any]:
        keys = [value] if isinstance(value, bytes) else parsing.as_list(value)
        return [key.decode("ascii", "replace") if isinstance(key, bytes) else key for key in keys]

    @field_validator("trusted_networks", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> tuple[Network, ...]:
        return tuple(parsing.as_network(item) for item in parsing.as_list(value))

    @field_validator("discover", mode="before")
    @classmethod
    def _hosts(cls, value: Any) -> tuple[str, ...]:
        return tuple(parsing.as_host(item) for item in parsing.as_list(value))

    @field_validator("document", mode="after")
    @classmethod
    def _named_as_the_file(cls, value: str, info: ValidationInfo) -> str:
        if value or "file" not in info.data:
            return value
        try:
            return parsing.as_needed_word(info.data["file"].name)
        except ValueError as error:
            raise ValueError(_NO_NAME.format(error)) from None

    @field_serializer("amqp_urls")
    def _redacted(self, brokers: tuple[BrokerAddress, ...]) -> tuple[str, ...]:
        return tuple(broker.redacted for broker in brokers)
