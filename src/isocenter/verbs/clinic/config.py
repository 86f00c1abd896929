"""`clinic.yaml`: everything that a node is told, strictly checked before anything starts."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from isocenter.core.errors import ConfigError
from isocenter.verbs.clinic.config_access import AccessConfig, ProviderConfig, SyslogConfig
from isocenter.verbs.clinic.config_arrival import ArrivalConfig, CriticalConfig, ExpectConfig, NotifyConfig
from isocenter.verbs.clinic.config_base import (
    Name,
    Port,
    Secret,
    Strict,
    Title,
    TlsConfig,
    refuse_token_in_the_clear,
)
from isocenter.verbs.clinic.config_messages import FhirDestination, Hl7Destination
from isocenter.verbs.clinic.config_observe import ObserveConfig
from isocenter.verbs.clinic.config_orders import FhirConfig, Hl7Config, WorklistConfig
from isocenter.verbs.clinic.config_results import CriticalFinding, ResultsConfig
from isocenter.verbs.clinic.config_vigilance import CanaryConfig, MarginsConfig, VigilanceConfig
from isocenter.verbs.clinic.config_web import WebConfig
from isocenter.verbs.read import Coded

__all__ = [
    "AccessConfig",
    "ArrivalConfig",
    "CallerConfig",
    "CanaryConfig",
    "ClinicConfig",
    "CompletenessConfig",
    "CriticalConfig",
    "CriticalFinding",
    "DicomWebDestination",
    "DimseDestination",
    "EntityConfig",
    "ExpectConfig",
    "InsistenceConfig",
    "LimitsConfig",
    "MarginsConfig",
    "NotifyConfig",
    "ProviderConfig",
    "ResultsConfig",
    "RuleConfig",
    "Secret",
    "SyslogConfig",
    "TasksConfig",
    "TlsConfig",
    "VigilanceConfig",
    "load_clinic_config",
]


class CallerConfig(Strict):
    """Somebody who may call.

    Attributes:
        title: Application entity title.
        hosts: Addresses or networks (CIDR) that it may call from; empty for any.
        port: Where it takes reports of storage commitment; without it none can be sent.
        host: Address for these reports; without it the first of `hosts`, where that is one address.
        tls: DICOM TLS for these reports, as of destinations; without it they go in the clear.
    """

    title: Title
    hosts: tuple[str, ...] = ()
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    host: str = ""
    tls: TlsConfig | None = None

    def reports_to(self) -> str:
        """Return the address for reports of storage commitment; "" where none is stated."""
        if self.host or not self.hosts:
            return self.host
        try:
            network = ip_network(self.hosts[0], strict=False)
        except ValueError:
            return ""  # who receives refuses it
        return str(network.network_address) if network.num_addresses == 1 else ""


class EntityConfig(Strict):
    """An application entity of ours.

    Attributes:
        title: What callers call.
        port: Where it listens.
        host: Address it listens on.
        callers: Who may call; nobody else is let in.
        storage: Storage SOP Class UIDs that it takes; empty for all.
        tls: DICOM TLS; certificate and key are needed then.
    """

    title: Title
    port: Port = 11112
    host: str = "127.0.0.1"
    callers: tuple[CallerConfig, ...] = Field(min_length=1)
    storage: tuple[str, ...] = ()
    tls: TlsConfig | None = None

    @model_validator(mode="after")
    def _whole(self) -> EntityConfig:
        if self.tls is not None and (self.tls.certificate is None or self.tls.key is None):
            raise ValueError("an entity with TLS needs certificate and key")
        return self


class LimitsConfig(Strict):
    """When instances are refused rather than lost.

    Attributes:
        quota_gb: Most that is held; null for no limit.
        reserve_mb: Room on the disk that receiving never takes.
        instance_mb: Longest instance.
        queue_studies: With so many studies waiting to be answered instances are refused (A700), and their senders try
            again later; null for no limit.
    """

    quota_gb: Annotated[float, Field(gt=0)] | None = None
    reserve_mb: Annotated[int, Field(ge=1)] = 256
    instance_mb: Annotated[int, Field(ge=1)] = 8192
    queue_studies: Annotated[int, Field(ge=1)] | None = None


class CompletenessConfig(Strict):
    """When a study has all its instances.

    Attributes:
        quiet_s: Nothing came for so long. Longer than a sender's pause before it sends again what was cut off.
        told_s: The scanner's performed procedure steps said how many each series has, they are there, and nothing came
            for so long.
        longest_s: A study that never falls quiet is answered all the same after so long, and again when more came.
    """

    quiet_s: Annotated[float, Field(gt=0)] = 30.0
    told_s: Annotated[float, Field(ge=0)] = 0.5
    longest_s: Annotated[float, Field(gt=0)] = 3600.0


class InsistenceConfig(Strict):
    """How often a delivery is tried.

    Attributes:
        first_wait_s: Before the second try; doubled each time.
        longest_wait_s: Never longer than that.
        tries: After so many it is a dead letter, until somebody sends it again (`isocenter clinic replay`).
    """

    first_wait_s: Annotated[float, Field(gt=0)] = 2.0
    longest_wait_s: Annotated[float, Field(gt=0)] = 600.0
    tries: Annotated[int, Field(ge=1)] = 500


class DimseDestination(Strict):
    """Results by C-STORE.

    Attributes:
        kind: "dimse".
        title: Application entity title of the other system.
        host: Its address.
        port: Its port.
        own_title: Title that it knows us by.
        tls: DICOM TLS.
        timeout_s: Of each step.
    """

    kind: Literal["dimse"]
    title: Title
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    own_title: Title = "ISOCENTER"
    tls: TlsConfig | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 30.0


class DicomWebDestination(Strict):
    """Results by STOW-RS.

    Attributes:
        kind: "dicomweb".
        url: Root of the DICOMweb service.
        token: Bearer token; over https alone, or to this machine.
        authorities: Who signs the server's certificate, where the system does not know them (PEM).
        timeout_s: Of each step.
    """

    kind: Literal["dicomweb"]
    url: Annotated[str, Field(pattern=r"^https?://")]
    token: Secret | None = None
    authorities: Path | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 60.0

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> DicomWebDestination:
        refuse_token_in_the_clear(self.url, self.token)
        return self


Destination = Annotated[
    DimseDestination | DicomWebDestination | FhirDestination | Hl7Destination, Field(discriminator="kind")
]


class RuleConfig(Strict):
    """Which studies are answered, by what, and where the answers go. What is not stated matches everything.

    Attributes:
        name: Of the rule; results are filed under it.
        modalities: Any of them.
        body_parts: Any of them, as the header has them.
        description: Regular expression, sought in study and series descriptions without regard to case.
        callers: Titles of senders; * and ? as in names of files.
        called: Titles of ours.
        tasks: Names of installed tasks, or folders of adapted ones.
        to: Names of destinations.
        identity: "keep", or "remove" before any task sees the study; results then carry pseudonyms and other UIDs, and
            belong to research, not to the archive they came from.
        evidence: Whether tasks are asked why, as `isocenter diagnose` does.
        rtstruct: Whether RT Structure Sets are written too.
        on_irregular: What to do with irregular series: "raise" (the task abstains), or "resample".
        modality: Modality of images whose header says none.
        body_part: Body part of images whose header says none.
        shadow: Answered and kept, sent nowhere: to see how a task would do.
        canary: A new model that answers a share of the studies in place of the tasks; null for none.
    """

    name: Name
    modalities: tuple[Coded, ...] = ()
    body_parts: tuple[Coded, ...] = ()
    description: str = ""
    callers: tuple[str, ...] = ()
    called: tuple[str, ...] = ()
    tasks: tuple[str, ...] = Field(min_length=1)
    to: tuple[Name, ...] = ()
    identity: Literal["keep", "remove"] = "keep"
    evidence: bool = False
    rtstruct: bool = False
    on_irregular: Literal["raise", "resample"] = "raise"
    modality: Coded | None = None
    body_part: Coded | None = None
    shadow: bool = False
    canary: CanaryConfig | None = None

    @model_validator(mode="after")
    def _sensible(self) -> RuleConfig:
        try:
            re.compile(self.description)
        except re.error as error:
            raise ValueError(f"the description is no regular expression: {error}") from error
        return self


class TasksConfig(Strict):
    """The processes that run tasks.

    Attributes:
        processes: How many studies are answered at one time, each in a process of its own.
        minutes: Longest that a study may take; then its process is ended and the study has failed.
        seed: Seed of everything random.
    """

    processes: Annotated[int, Field(ge=1)] = 1
    minutes: Annotated[float, Field(gt=0)] = 30.0
    seed: Annotated[int, Field(ge=0)] = 0


class ClinicConfig(Strict):
    """A node of the clinic.

    Attributes:
        store: Folder of everything that the node holds; made where it is not there, readable by its owner alone.
        database: "auto" for SQLite in the store, or the secret that is a URL "postgresql+psycopg://...".
        entities: Application entities of ours.
        acceptors: Processes that receive.
        limits: When instances are refused rather than lost.
        completeness: When a study has all its instances.
        rules: What is done with which study; every rule that matches applies.
        destinations: Where results go, by name.
        insistence: How often a delivery is tried.
        tasks: The processes that run tasks.
        audit: Record that a line is appended to for every answer; "auto" for one in the store, null for none.
        web: The node's web server (DICOMweb, worklist); null for none.
        access: Accounts, roles and API tokens for the web server and the viewer; null for the one token of `web`.
        hl7: Where orders are taken by HL7; null for nowhere.
        fhir: Where orders are asked for by FHIR; null for nowhere.
        worklist: The modality worklist that is asked for what is scheduled; null for none.
        observe: Logs, readiness, events and traces.
        vigilance: How the node watches over its own answers.
        arrival: What is done with studies that are still arriving; null for nothing.
        results: Result sets after IHE's AI Results profile; null for segmentations and reports alone.
    """

    store: Path
    database: Literal["auto"] | Secret = "auto"
    entities: tuple[EntityConfig, ...] = Field(min_length=1)
    acceptors: Annotated[int, Field(ge=1, le=64)] = 2
    limits: LimitsConfig = LimitsConfig()
    completeness: CompletenessConfig = CompletenessConfig()
    rules: tuple[RuleConfig, ...] = ()
    destinations: dict[Name, Destination] = Field(default_factory=dict)
    insistence: InsistenceConfig = InsistenceConfig()
    tasks: TasksConfig = TasksConfig()
    audit: Literal["auto"] | Path | None = "auto"
    web: WebConfig | None = None
    access: AccessConfig | None = None
    hl7: Hl7Config | None = None
    fhir: FhirConfig | None = None
    worklist: WorklistConfig | None = None
    observe: ObserveConfig = ObserveConfig()
    vigilance: VigilanceConfig = VigilanceConfig()
    arrival: ArrivalConfig | None = None
    results: ResultsConfig | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ClinicConfig:
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have one name")
        titles = [entity.title for entity in self.entities]
        if len(set(titles)) < len(titles):
            raise ValueError("two entities have one title")
        unknown = sorted({to for rule in self.rules for to in rule.to} - set(self.destinations))
        if self.web is not None and (self.web.token is None) == (self.access is None):
            raise ValueError("the web server takes either its one token (web: token), or accounts (access)")
        if unknown:
            raise ValueError(f"no destination is named {', '.join(unknown)}")
        for rule in self.rules:
            records = [to for to in rule.to if isinstance(self.destinations[to], FhirDestination | Hl7Destination)]
            if rule.identity == "remove" and records:
                raise ValueError(
                    f"rule {rule.name} removes identities, and {records[0]} is a hospital's record, where nobody has "
                    "a pseudonym"
                )
        unknown = sorted(set(self.results.rules if self.results is not None else ()) - set(names))
        if unknown:
            raise ValueError(f"results: no rule is named {', '.join(unknown)}")
        return self

    @property
    def records(self) -> frozenset[str]:
        """Names of the destinations that take messages, and no DICOM objects."""
        return frozenset(n for n, to in self.destinations.items() if isinstance(to, FhirDestination | Hl7Destination))

    def database_url(self, file: str) -> str:
        """Return the database's URL; SQLite has a file of its own for ledger and for checkpoints.

        Raises:
            ConfigError: The secret is not there, or is no URL of PostgreSQL.
        """
        if isinstance(self.database, Secret):
            url = self.database.read()
            if not url.startswith(("postgresql://", "postgresql+psycopg://")):
                raise ConfigError("the database's URL begins with postgresql+psycopg://")
            return url.replace("postgresql://", "postgresql+psycopg://", 1)
        return f"sqlite:///{self.store / file}"


def load_clinic_config(file: Path | str) -> ClinicConfig:
    """Read `clinic.yaml`. Relative paths in it are from where it stands.

    Raises:
        ConfigError: It can't be read, is no YAML, or a setting is wrong; the first that is, is named.
    """
    file = Path(file)
    try:
        content: Any = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no YAML in UTF-8") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} holds no settings")
    try:
        config = ClinicConfig.model_validate(content)
    except ValidationError as error:
        # Of a choice ("auto" or a secret) the last is what was meant, where it is not the plain word.
        found = error.errors(include_url=False, include_input=False)
        first = next((e for e in found if e["type"] != "literal_error"), found[0])
        raise ConfigError(f"{file}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
    if config.store.is_absolute():
        return config
    return config.model_copy(update={"store": (file.parent / config.store).absolute()})
