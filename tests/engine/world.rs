//! Everything between the log and Kafka, put together: a log in memory, a real PostgreSQL, the real
//! Kafka protocol.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use oms::actors::outbox::{OutboxDeps, Tailer};
use oms::actors::relay::{Publisher, QueueLimits, RelayDeps, RelaySettings};
use oms::clock::SystemClock;
use oms::domain::ids::Epoch;
use oms::domain::ids::StreamName;
use oms::migration::partition_state::PartitionState;
use oms::migration::stage::Stage;
use oms::store::adapters::kafka::{KafkaSettings, KafkaTransport};
use oms::store::adapters::postgres::PostgresSettings;
use oms::store::adapters::postgres::outbox::PostgresOutbox;
use oms::store::halts::Halts;
use oms::store::health::Health;
use oms::store::ports::delivery::{DeliveryStatus, DeliveryStore};
use oms_testkit::kafka::Broker;
use oms_testkit::log::{Log, order};
use oms_testkit::{eventually, postgres};
use tokio::sync::{Notify, oneshot, watch};

pub const PARTITIONS: u16 = 3;
pub const TOPIC: &str = "oms.stream";

pub struct World {
    pub log: Log,
    pub outbox: Arc<PostgresOutbox>,
    pub broker: Broker,
    pub recorded: Arc<Notify>,
    pub kafka: Arc<Health>,
}

impl World {
    pub async fn new(settings: &PostgresSettings) -> Self {
        Self {
            log: Log::new(PARTITIONS).await,
            outbox: Arc::new(PostgresOutbox::new(postgres::connect(settings))),
            broker: Broker::start(),
            recorded: Arc::new(Notify::new()),
            kafka: Arc::new(Health::new(oms_testkit::now)),
        }
    }

    pub fn tail(&self, store: Arc<dyn DeliveryStore>) -> Task {
        let deps = self.outbox_deps(store);
        Task::run(move || Tailer::new(deps).run())
    }

    pub fn outbox_deps(&self, store: Arc<dyn DeliveryStore>) -> OutboxDeps {
        OutboxDeps {
            log: self.log.log.clone(),
            heads: self.log.heads.clone(),
            store,
            objects: self.log.objects.clone(),
            topics: KafkaSettings::default().topics(),
            stages: led_by_s3(),
            recorded: self.recorded.clone(),
            look_every: Duration::from_millis(100),
            halts: Halts::new(oms::clock::now),
        }
    }

    pub fn publish(&self, store: Arc<dyn DeliveryStore>, kafka: KafkaSettings) -> Task {
        let deps = self.relay_deps(store, kafka);
        Task::run(move || Publisher::new(deps).run())
    }

    pub fn relay_deps(&self, store: Arc<dyn DeliveryStore>, kafka: KafkaSettings) -> RelayDeps {
        let health = self.kafka.clone();
        let transport = KafkaTransport::new(kafka, oms_testkit::io(), health).expect("settings");
        RelayDeps {
            store,
            transport: Arc::new(transport),
            log: self.log.log.clone(),
            objects: self.log.objects.clone(),
            clock: Arc::new(SystemClock),
            recorded: self.recorded.clone(),
            node: "node".into(),
            halts: Halts::new(oms::clock::now),
            settings: RelaySettings {
                limits: QueueLimits {
                    // Small, so that a few hundred events are many waves and windows.
                    window: 200,
                    wave_rows: 40,
                    // Short, so that ten refusals do not take minutes.
                    retry_min: Duration::from_millis(20),
                    retry_max: Duration::from_millis(50),
                    ..QueueLimits::default()
                },
                // Short, since a test waits for what they do.
                sweep: Duration::from_millis(300),
                report: Duration::from_millis(100),
                ..RelaySettings::default()
            },
        }
    }

    pub async fn run(&self) -> (Task, Task) {
        let tailer = self.tail(self.outbox.clone());
        let publisher = self.publish(self.outbox.clone(), self.broker.settings());
        (tailer, publisher)
    }

    /// Waits until everything was taken in and the outbox is empty.
    pub async fn delivered(&self) -> DeliveryStatus {
        eventually("everything is delivered", || async {
            let status = self.outbox.status().await.ok()?.with_heads(&self.log.heads);
            let taken_in = status.partitions.len() == usize::from(PARTITIONS)
                && status.partitions.iter().all(|p| p.lag.unwrap_or(0) == 0);
            (taken_in && status.depth == 0).then_some(status)
        })
        .await
    }

    /// Law 9: every committed event is in Kafka, byte for byte, and of each stream they were seen
    /// for the first time in order. Answers how often each was seen.
    pub async fn check(&self, except: &[usize]) -> HashMap<Vec<u8>, usize> {
        let consumed = self.broker.read(TOPIC).await;
        let mut streams: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
        let mut times: HashMap<Vec<u8>, usize> = HashMap::new();
        for message in consumed {
            let seen = times.entry(message.value.clone()).or_default();
            *seen += 1;
            if *seen == 1 {
                streams.entry(message.key).or_default().push(message.value);
            }
        }
        let mut expected: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
        for (i, (stream, _, bytes)) in self.log.written().await.into_iter().enumerate() {
            if !except.contains(&i) {
                expected
                    .entry(stream.to_string())
                    .or_default()
                    .push(bytes.to_vec());
            }
        }
        assert_eq!(streams.len(), expected.len());
        for (stream, events) in expected {
            let found = streams.remove(&stream).unwrap_or_default();
            assert_eq!(found.len(), events.len(), "events of stream {stream}");
            assert!(found == events, "order of stream {stream}");
        }
        times
    }
}

/// S3 leads every partition, alone.
fn led_by_s3() -> watch::Receiver<Vec<Option<PartitionState>>> {
    let state = PartitionState {
        stage: Stage::s3_only(Epoch(1)),
        moving: false,
    };
    watch::channel(vec![Some(state); usize::from(PARTITIONS)]).1
}

/// A loop on a thread of its own, as on an arbiter; it ends with its owner, at any point.
pub struct Task {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Task {
    pub fn run<F: Future<Output = ()>>(make: impl FnOnce() -> F + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build();
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = make() => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                std::thread::panicking() || ended.is_ok(),
                "the loop panicked"
            );
        }
    }
}

pub fn orders(n: usize) -> Vec<StreamName> {
    (0..n).map(order).collect()
}
