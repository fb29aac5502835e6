//! Kafka inside this process: librdkafka's own mock broker, which speaks the real protocol on
//! loopback.
//!
//! **It forgets.** It keeps 5 MiB or 100,000 batches a partition and silently drops what is older,
//! and all of it when the process ends; so do committed offsets of consumer groups. Nothing of the
//! service depends on it: events are in the log, and the read model follows the log, not Kafka. A
//! consumer that must see everything fills gaps from the log, or is given a real broker.
//!
//! Also known: `CreateTopics` is not answered; topics that were not made at start are made by their
//! first use; transactions are accepted and mean nothing; append times are a constant; the first
//! join of a consumer group takes three seconds.

use std::net::TcpStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;

use super::EmbeddedError;

/// One is enough: replicas in one process protect from nothing.
const BROKERS: i32 = 1;

/// Partitions of a topic.
const PARTITIONS: i32 = 4;

/// Between two knocks at the broker's door while topics are made: longer than making them takes.
const KNOCK: Duration = Duration::from_millis(5);

/// The running broker; gone when dropped, and all messages with it.
pub struct KafkaServer {
    bootstrap: String,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaServer {
    /// Starts a broker on a free port of loopback, with these topics: it does not answer requests
    /// to make some, and making them at their first use delays that.
    pub fn start(topics: &[String]) -> Result<Self, EmbeddedError> {
        let topics = topics.to_vec();
        let (ready, started) = mpsc::sync_channel(1);
        let (stop, stopped) = mpsc::channel::<()>();
        // The cluster must not change threads, so it lives on one of its own.
        let thread = std::thread::Builder::new()
            .name("embedded-kafka".into())
            .spawn(move || {
                let made = MockCluster::new(BROKERS).and_then(|cluster| {
                    make_topics(&cluster, &topics)?;
                    Ok(cluster)
                });
                let cluster = match made {
                    Ok(cluster) => cluster,
                    Err(error) => {
                        // Nobody waits for it: nothing to tell.
                        ready.send(Err(error)).ok();
                        return;
                    }
                };
                if ready.send(Ok(cluster.bootstrap_servers())).is_ok() {
                    // A word or its owner's end: either stops it.
                    stopped.recv().ok();
                }
            })
            .map_err(|e| EmbeddedError::io("start", "a thread for Kafka".as_ref())(e))?;
        let bootstrap = (started.recv())
            .unwrap_or(Err(KafkaError::Canceled))
            .map_err(EmbeddedError::Kafka)?;
        Ok(Self {
            bootstrap,
            stop,
            thread: Some(thread),
        })
    }

    /// Its address, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Ends the broker; what it holds is gone.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        // Gone already: nothing to stop.
        self.stop.send(()).ok();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the embedded Kafka panicked");
        }
    }
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Makes the topics. The broker's thread may miss that there is an order and look for it only a
/// second later; whoever connects wakes it.
fn make_topics<C: ClientContext>(
    cluster: &MockCluster<'_, C>,
    topics: &[String],
) -> Result<(), KafkaError> {
    let servers = cluster.bootstrap_servers();
    let door = servers.split(',').next().unwrap_or_default();
    let (done, over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while over.recv_timeout(KNOCK) == Err(RecvTimeoutError::Timeout) {
                // That somebody is there is all that is to be said, and a broken knock is one too.
                TcpStream::connect(door).ok();
            }
        });
        let mut topics = topics.iter();
        let made = topics.try_for_each(|topic| cluster.create_topic(topic, PARTITIONS, BROKERS));
        drop(done);
        made
    })
}
