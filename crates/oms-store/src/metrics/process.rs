//! Metrics of this process from the operating system, read at each scrape: under the names of
//! Prometheus' own client libraries, plus the processor time of each kind of thread. Linux only.

use std::collections::BTreeMap;
use std::fmt::Write;

use procfs::process::{LimitValue, Process};
use procfs::{ProcError, ProcResult};

use super::{
    ALL, Kind, PROCESS_CPU, PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RSS, PROCESS_START,
    PROCESS_THREADS, PROCESS_VIRTUAL, THREAD_CPU,
};

/// Appends them in Prometheus' text format; what cannot be read is left out.
pub(super) fn render(text: &mut String) {
    match read() {
        Ok(read) => read.write(text),
        Err(error) => tracing::debug!(%error, "the system says nothing of this process"),
    }
}

struct Read {
    values: Vec<(&'static str, f64)>,
    threads: BTreeMap<String, f64>,
}

fn read() -> ProcResult<Read> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let tick = procfs::ticks_per_second() as f64;
    let seconds = |ticks: u64| ticks as f64 / tick;
    let rss = stat.rss.saturating_mul(procfs::page_size());
    let began = procfs::boot_time_secs()? as f64 + seconds(stat.starttime);
    let mut values = vec![
        (PROCESS_CPU, seconds(stat.utime + stat.stime)),
        (PROCESS_RSS, rss as f64),
        (PROCESS_VIRTUAL, stat.vsize as f64),
        (PROCESS_OPEN_FDS, process.fd_count()? as f64),
        (PROCESS_THREADS, stat.num_threads as f64),
        (PROCESS_START, began),
    ];
    if let LimitValue::Value(most) = process.limits()?.max_open_files.soft_limit {
        values.push((PROCESS_MAX_FDS, most as f64));
    }
    let mut threads = BTreeMap::new();
    for task in process.tasks()? {
        match task.and_then(|task| task.stat()) {
            Ok(stat) => {
                let used = threads.entry(purpose(&stat.comm).to_owned()).or_default();
                *used += seconds(stat.utime + stat.stime);
            }
            // The thread has ended meanwhile.
            Err(ProcError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Read { values, threads })
}

/// The purpose of a thread, from its name. Names of libraries' threads are grouped, because some
/// contain numbers.
fn purpose(name: &str) -> &str {
    const LIBRARIES: [(&str, &str); 5] = [
        ("actix", "http"),
        ("rdk:", "kafka"),
        ("embedded-kafka", "kafka"),
        ("embedded-", "embedded_postgres"),
        ("s3-", "embedded_s3"),
    ];
    if let Some(ours) = name.strip_prefix("oms-") {
        return ours;
    }
    let library = LIBRARIES.iter().find(|(start, _)| name.starts_with(start));
    library.map_or("other", |(_, purpose)| purpose)
}

impl Read {
    fn write(&self, text: &mut String) {
        for (name, value) in &self.values {
            head(text, name);
            line(text, format_args!("{name} {value}"));
        }
        head(text, THREAD_CPU);
        for (thread, seconds) in &self.threads {
            line(
                text,
                format_args!("{THREAD_CPU}{{thread=\"{thread}\"}} {seconds}"),
            );
        }
        text.push('\n');
    }
}

fn head(text: &mut String, name: &str) {
    let Some(metric) = ALL.iter().find(|metric| metric.name == name) else {
        return;
    };
    let kind = if metric.kind == Kind::Counter {
        "counter"
    } else {
        "gauge"
    };
    line(text, format_args!("# HELP {name} {}", metric.help));
    line(text, format_args!("# TYPE {name} {kind}"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Cannot fail: it writes to a String.
    let _always = writeln!(text, "{line}");
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;

    fn value(text: &str, name: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|rest| rest.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
    }

    /// Against what the test itself holds: other tests of this process open and free as well.
    #[test]
    fn the_process_is_told_as_it_is() {
        const FILES: usize = 64;
        const BYTES: u32 = 64 << 20;
        let files: Vec<_> = (0..FILES)
            .map(|_| std::fs::File::open("/proc/self/stat").expect("a file"))
            .collect();
        let memory = vec![1_u8; BYTES as usize];
        let (begin, begun) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("oms-metrics-test".into());
        let run = move || {
            // A thread takes its name when it begins.
            begin.send(()).expect("somebody waits");
            ended.recv()
        };
        let thread = thread.spawn(run).expect("a thread");
        begun.recv().expect("it began");
        let mut after = String::new();
        render(&mut after);
        assert!(value(&after, "process_open_fds ") >= FILES as f64);
        assert!(value(&after, "process_resident_memory_bytes ") >= f64::from(BYTES));
        assert!(value(&after, "process_max_fds ") >= value(&after, "process_open_fds "));
        assert!(after.contains("oms_thread_cpu_seconds_total{thread=\"metrics-tes"));
        #[expect(
            clippy::disallowed_methods,
            reason = "the start is told by the system's clock"
        )]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let age =
            now.expect("after 1970").as_secs_f64() - value(&after, "process_start_time_seconds ");
        assert!((-2.0..3600.0).contains(&age), "{age}");
        drop((files, memory, end));
        assert!(thread.join().expect("it ended").is_err());
    }

    /// Between the listing of a thread and the look at it, it may be gone.
    #[test]
    fn a_thread_that_ends_takes_no_figure_with_it() {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while std::time::Instant::now() < end {
                        let short = std::thread::spawn(std::thread::yield_now);
                        short.join().expect("it ended");
                    }
                });
            }
            while std::time::Instant::now() < end {
                read().expect("figures");
            }
        });
    }

    #[test]
    fn threads_are_few_by_purpose() {
        for (name, expected) in [
            ("oms-log", "log"),
            ("oms-entities/1", "entities/1"),
            ("actix-rt|system", "http"),
            ("rdk:broker1001", "kafka"),
            ("rdk:broker1002", "kafka"),
            ("embedded-postgr", "embedded_postgres"),
            ("s3-writer", "embedded_s3"),
            ("whatever-17", "other"),
        ] {
            assert_eq!(purpose(name), expected);
        }
    }
}
