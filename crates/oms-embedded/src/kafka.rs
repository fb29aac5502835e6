//! Kafka inside this process: librdkafka's own mock broker, which speaks the real protocol on
//! loopback.
//!
//! **It is not durable.** It keeps 5 MiB or 100,000 batches per partition and silently drops what
//! is older. When the process ends all messages are lost, and committed offsets of consumer groups
//! too. The service does not depend on it: events are in the log, and the read model follows the
//! log, not Kafka. A consumer that must see everything reads gaps from the log, or uses a real
//! broker.
//!
//! Also known: `CreateTopics` is not answered; topics that were not created at start are created by
//! their first use; transactions are accepted but have no effect; append times are a constant; the
//! first join of a consumer group takes three seconds.

use std::net::TcpStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;

use super::EmbeddedError;

/// One is enough: replicas within one process protect against nothing.
const BROKERS: i32 = 1;

/// Partitions of a topic.
const PARTITIONS: i32 = 4;

/// Interval between two connections to the broker while topics are created: longer than creating
/// them takes.
const KNOCK: Duration = Duration::from_millis(5);

/// A running broker; it stops when dropped, and all messages are lost.
pub struct KafkaServer {
    bootstrap: String,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaServer {
    /// Starts a broker on a free loopback port, with these topics: it does not answer requests to
    /// create any, and creating them by their first use would delay that.
    pub fn start(topics: &[String]) -> Result<Self, EmbeddedError> {
        let topics = topics.to_vec();
        let (ready, started) = mpsc::sync_channel(1);
        let (stop, stopped) = mpsc::channel::<()>();
        // The mock cluster must not change threads, so it lives on one of its own.
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
                        // The caller is gone: there is nobody to tell.
                        ready.send(Err(error)).ok();
                        return;
                    }
                };
                if ready.send(Ok(cluster.bootstrap_servers())).is_ok() {
                    // A message and the end of the sender both stop it.
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

    /// Stops the broker; all messages are lost.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        // The thread has ended already.
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

/// Creates the topics. The broker's thread may miss the request and look for it only a second
/// later; a connection wakes it.
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
                // Only the connection matters; one that fails wakes the thread too.
                TcpStream::connect(door).ok();
            }
        });
        let mut topics = topics.iter();
        let made = topics.try_for_each(|topic| cluster.create_topic(topic, PARTITIONS, BROKERS));
        drop(done);
        made
    })
}
