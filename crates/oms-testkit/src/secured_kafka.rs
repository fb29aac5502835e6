//! A real Kafka broker as companies run it: TLS by an authority that nobody knows, accounts with
//! passwords or certificates, rights that have to be given, topics that nobody makes by asking.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oms_store::adapters::kafka::KafkaSettings;
use tokio::net::TcpStream;

use crate::certificates::Authority;
use crate::held_port::HeldPort;

/// The account of the service.
pub const USER: &str = "oms";

/// Its password.
pub const PASSWORD: &str = "a pass=word; with more than letters";

/// How long the broker may take to start: a virtual machine that compiles as it goes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A broker; it ends with this value.
pub struct SecuredKafka {
    process: Child,
    dir: tempfile::TempDir,
    ports: Ports,
    libraries: PathBuf,
}

/// Where it listens.
struct Ports {
    /// Without TLS or accounts, for the administrator.
    plain: u16,
    /// TLS, and an account with a password.
    sasl: u16,
    /// TLS, and a client's certificate.
    mutual: u16,
    controller: u16,
}

impl SecuredKafka {
    /// Starts it, where the libraries of Apache Kafka are in the folder that `OMS_TEST_KAFKA_LIBS`
    /// names; nothing otherwise.
    pub async fn start() -> Option<Self> {
        let Some(libraries) = std::env::var_os("OMS_TEST_KAFKA_LIBS") else {
            eprintln!("not run: OMS_TEST_KAFKA_LIBS names no libraries of Apache Kafka");
            return None;
        };
        let libraries = PathBuf::from(libraries);
        let dir = tempfile::tempdir().expect("a directory");
        let held: Vec<(u16, HeldPort)> = (0..4).map(|_| HeldPort::any()).collect();
        let ports = Ports {
            plain: held[0].0,
            sasl: held[1].0,
            mutual: held[2].0,
            controller: held[3].0,
        };
        certificates(dir.path());
        let properties = dir.path().join("server.properties");
        std::fs::write(&properties, configuration(dir.path(), &ports)).expect("a configuration");
        let formatted = java(&libraries, "kafka.tools.StorageTool")
            .args([
                "format",
                "--standalone",
                "--cluster-id",
                "AAAAAAAAAAAAAAAAAAAAAA",
            ])
            .arg("--config")
            .arg(&properties)
            .args(["--add-scram", &scram(USER, PASSWORD)])
            .output()
            .expect("java");
        assert!(
            formatted.status.success(),
            "the storage was not formatted: {}{}",
            String::from_utf8_lossy(&formatted.stdout),
            String::from_utf8_lossy(&formatted.stderr)
        );
        let process = run(&libraries, dir.path());
        let mut broker = Self {
            process,
            dir,
            ports,
            libraries,
        };
        broker.wait().await;
        Some(broker)
    }

    /// Ends the broker and starts it anew, as when it is given a newer version.
    pub async fn restart(&mut self) {
        self.end();
        let ports = &self.ports;
        let ports = [ports.plain, ports.sasl, ports.mutual, ports.controller];
        let held = ports.map(|port| HeldPort::hold(port).expect("the port that it had"));
        self.process = run(&self.libraries, self.dir.path());
        self.wait().await;
        drop(held);
    }

    async fn wait(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.ports.sasl))
            .await
            .is_err()
        {
            let ended = self.process.try_wait().expect("its state");
            let late = tokio::time::Instant::now() > deadline;
            assert!(ended.is_none() && !late, "{ended:?}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn end(&mut self) {
        let pid = Pid::from_raw(self.process.id() as i32);
        kill(pid, Signal::SIGTERM).ok();
        self.process.wait().ok();
    }

    /// The administrator's address, which asks for nothing.
    pub fn administrator(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plain)
    }

    /// The PEM file of the authority that vouches for the broker.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Options of a client that signs in with a password, over TLS.
    pub fn password_options(&self, mechanism: &str) -> BTreeMap<String, String> {
        options(&[
            ("security.protocol", "sasl_ssl"),
            ("ssl.ca.location", self.ca_file().to_str().expect("UTF-8")),
            ("sasl.mechanism", mechanism),
            ("sasl.username", USER),
            ("sasl.password", PASSWORD),
        ])
    }

    /// Options of a client that shows a certificate.
    pub fn certificate_options(&self) -> BTreeMap<String, String> {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        options(&[
            ("security.protocol", "ssl"),
            ("ssl.ca.location", &file("ca.pem")),
            ("ssl.certificate.location", &file("client.pem")),
            ("ssl.key.location", &file("client.key")),
        ])
    }

    /// Settings of the service with these options and topics.
    pub fn settings(&self, prefix: &str, extra: BTreeMap<String, String>) -> KafkaSettings {
        let mutual = extra.contains_key("ssl.certificate.location");
        let port = if mutual {
            self.ports.mutual
        } else {
            self.ports.sasl
        };
        KafkaSettings {
            bootstrap: format!("127.0.0.1:{port}"),
            topic_prefix: prefix.to_owned(),
            extra,
            ..KafkaSettings::default()
        }
    }

    /// Gives the service's account a right: an operation such as `Write`, on a resource such as
    /// `--topic` whose name begins with `prefix`.
    pub async fn allow(&self, operation: &str, resource: &str, prefix: &str) {
        let mut command = java(&self.libraries, "org.apache.kafka.tools.AclCommand");
        command
            .args(["--bootstrap-server", &self.administrator(), "--add"])
            .args(["--allow-principal", &format!("User:{USER}")])
            .args(["--allow-principal", &format!("User:CN={USER}")])
            .args(["--operation", operation, resource, prefix])
            .args(["--resource-pattern-type", "prefixed"]);
        let done = tokio::task::spawn_blocking(move || command.output().expect("java"));
        let done = done.await.expect("the command");
        assert!(
            done.status.success(),
            "no right was given: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

impl Drop for SecuredKafka {
    fn drop(&mut self) {
        self.end();
    }
}

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn scram(user: &str, password: &str) -> String {
    format!("SCRAM-SHA-512=[name=\"{user}\",password=\"{password}\"]")
}

fn certificates(dir: &Path) {
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).expect("a file");
    let authority = Authority::new("the company");
    let server = authority.issue("kafka", &["127.0.0.1", "localhost"]);
    let client = authority.issue(USER, &[]);
    write("ca.pem", authority.pem());
    write(
        "server.pem",
        format!("{}{}", server.key, server.certificate),
    );
    write("client.pem", client.certificate);
    write("client.key", client.key);
}

fn configuration(dir: &Path, ports: &Ports) -> String {
    let Ports {
        plain,
        sasl,
        mutual,
        controller,
    } = ports;
    let address = |name: &str, port: &u16| format!("{name}://127.0.0.1:{port}");
    let listeners = [
        address("PLAIN", plain),
        address("SASL", sasl),
        address("MUTUAL", mutual),
    ]
    .join(",");
    let file = |name: &str| dir.join(name).display().to_string();
    let modules = "org.apache.kafka.common.security";
    let mut text = String::new();
    for (name, value) in [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        (
            "listeners",
            &format!("{listeners},{}", address("CONTROLLER", controller)),
        ),
        ("advertised.listeners", &listeners),
        ("inter.broker.listener.name", "PLAIN"),
        ("controller.listener.names", "CONTROLLER"),
        (
            "controller.quorum.bootstrap.servers",
            &format!("127.0.0.1:{controller}"),
        ),
        (
            "listener.security.protocol.map",
            "PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL",
        ),
        ("ssl.keystore.type", "PEM"),
        ("ssl.keystore.location", &file("server.pem")),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", &file("ca.pem")),
        ("listener.name.mutual.ssl.client.auth", "required"),
        ("sasl.enabled.mechanisms", "SCRAM-SHA-512,PLAIN"),
        (
            "listener.name.sasl.scram-sha-512.sasl.jaas.config",
            &format!("{modules}.scram.ScramLoginModule required;"),
        ),
        (
            "listener.name.sasl.plain.sasl.jaas.config",
            &format!("{modules}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";"),
        ),
        (
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        ),
        ("super.users", "User:ANONYMOUS"),
        ("auto.create.topics.enable", "false"),
        ("log.dirs", &file("data")),
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", "1"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "1"),
        ("group.initial.rebalance.delay.ms", "0"),
    ] {
        writeln!(text, "{name}={value}").expect("memory");
    }
    text
}

fn java(libraries: &Path, main: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(libraries.join("*"))
        .arg(main)
        .stdin(Stdio::null());
    command
}

fn run(libraries: &Path, dir: &Path) -> Child {
    let log = std::fs::File::create(dir.join("log")).expect("a log");
    let mut command = java(libraries, "kafka.Kafka");
    command
        .arg(dir.join("server.properties"))
        .stdout(log.try_clone().expect("a log"))
        .stderr(log);
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
    unsafe {
        command.pre_exec(|| {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from)
        });
    }
    command.spawn().expect("java")
}
