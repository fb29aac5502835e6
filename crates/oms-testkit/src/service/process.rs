//! `oms serve` as a process of its own, with its data directory: started, asked, killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};

use super::contract::Answer;

use crate::DEADLINE;
use crate::held_port::HeldPort;

/// A process of `oms serve`, or the place of one: the data directory and the port are kept when it
/// ends, so that it can be started again.
pub struct Process {
    program: String,
    /// What failures call it.
    name: String,
    data_dir: tempfile::TempDir,
    /// All that it finds in its environment, besides `PATH`.
    env: Vec<(String, String)>,
    args: Vec<String>,
    /// How many files the process may have open, where that is limited.
    files: Option<u32>,
    /// 0 until it has told where it listens.
    port: u16,
    child: Option<Child>,
    /// Its port, once it has ended: it is to have it again.
    held: Option<HeldPort>,
    /// Base URL, once it has told it.
    pub url: String,
}

impl Process {
    /// One that is not started yet. `program` is the path of `oms`.
    pub fn new(program: &str, name: &str, data_dir: tempfile::TempDir) -> Self {
        Self {
            program: program.to_owned(),
            name: name.to_owned(),
            data_dir,
            env: vec![],
            args: vec![],
            files: None,
            port: 0,
            child: None,
            held: None,
            url: String::new(),
        }
    }

    /// The path of `oms`.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Sets a variable for its next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Flags for its next start, besides those for its data and its port.
    pub fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// From its next start on it may have so many files open, and no more.
    pub fn limit_files(&mut self, files: u32) {
        self.files = Some(files);
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        let mut command = match self.files {
            None => Command::new(&self.program),
            Some(files) => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")])
                    .arg(&self.program);
                shell
            }
        };
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.data_dir.path())
            .arg("--port")
            .arg(self.port.to_string())
            .args(&self.args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LOG_LEVEL", "info")
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null());
        command
    }

    /// Starts it; it is not ready yet.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        // What an earlier process has told here may be true no more.
        let told = self.endpoints_file();
        if self.port == 0 && told.exists() {
            std::fs::remove_file(told).expect("removed");
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("a log file");
        let child = self
            .command()
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("oms starts");
        self.child = Some(child);
    }

    /// Whether it serves.
    pub async fn is_ready(&mut self, http: &reqwest::Client) -> bool {
        if self.port == 0 {
            let Some(url) = told_url(&self.endpoints_file()) else {
                return false;
            };
            let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
            self.port = port.expect("a port");
            self.url = url;
        }
        let request = http
            .get(format!("{}/health/ready", self.url))
            .timeout(Duration::from_secs(1));
        matches!(request.send().await, Ok(answer) if answer.status().is_success())
    }

    /// Waits until it serves.
    pub async fn until_ready(&mut self, http: &reqwest::Client) {
        let deadline = Instant::now() + DEADLINE;
        while !self.is_ready(http).await {
            if let Some(code) = self.has_ended() {
                panic!("{} ended with {code}:\n{}", self.name, self.log_tail(60));
            }
            assert!(
                Instant::now() < deadline,
                "{} is not ready:\n{}",
                self.name,
                self.log_tail(60)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether there is a process.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("running").id() as i32
    }

    /// The exit code, if it has ended; -1 for a signal.
    pub fn has_ended(&mut self) -> Option<i32> {
        let status = self.child.as_mut()?.try_wait().expect("status")?;
        self.child = None;
        self.hold_port();
        Some(status.code().unwrap_or(-1))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // It may have ended in this moment; whoever looks next is told.
            let _ = kill(Pid::from_raw(child.id() as i32), signal);
        }
    }

    /// Ends it as power loss would, for a process.
    pub fn kill_9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
            self.hold_port();
        }
    }

    fn hold_port(&mut self) {
        if self.port != 0 && self.held.is_none() {
            // Whoever was quicker has it; then the next start says so.
            self.held = HeldPort::hold(self.port).ok();
        }
    }

    /// Where it keeps its data.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// Where it tells its addresses.
    pub fn endpoints_file(&self) -> PathBuf {
        self.data_dir.path().join("endpoints.json")
    }

    fn log_file(&self) -> PathBuf {
        self.data_dir.path().join("service.log")
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The end of what it logged.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Option<u64> {
        let pid = self.child.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes << 10)
    }

    /// Asks; status and body, as text where it is no JSON. An answer that is not as the API's
    /// description says ends the test.
    pub async fn send(
        &self,
        http: &reqwest::Client,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> reqwest::Result<(u16, Value)> {
        let mut request = http.request(method.clone(), format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = Answer::read(request.send().await?).await?;
        answer.hold(method.as_str(), path, body);
        let value = serde_json::from_str(&answer.body).unwrap_or(json!(answer.body));
        Ok((answer.status, value))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The test is over, however it ended; nobody is left to be told.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn told_url(endpoints: &Path) -> Option<String> {
    let endpoints: Value = serde_json::from_slice(&std::fs::read(endpoints).ok()?).ok()?;
    Some(endpoints["http"].as_str()?.trim_end_matches('/').to_owned())
}
