//! Two nodes are restarted one after the other, in order, under load: no client that repeats what it
//! got no answer to is ever refused, and nothing is lost.

use nix::sys::signal::Signal;
use oms_testkit::service::PATIENCE;

use crate::clients::Shared;
use crate::cluster::Cluster;
use crate::collect::collect;
use crate::history::Outcome;
use crate::validator::judge;

/// Restarts of each node.
const ROUNDS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_2_a_rolling_restart_of_two_nodes_refuses_no_write_and_loses_none() {
    let mut cluster = Cluster::start(2, &[]).await;
    let urls = cluster.nodes.iter().map(|n| n.url.clone()).collect();
    let shared = Shared::new(urls, cluster.http.clone());
    shared.prepare().await;
    let load = shared.start(4, 7);
    let http = cluster.http.clone();
    for _ in 0..ROUNDS {
        for node in &mut cluster.nodes {
            let before = shared.done();
            crate::cluster::until("writes between two restarts", || {
                (shared.done() > before + 40).then_some(())
            })
            .await;
            node.signal(Signal::SIGTERM);
            let code = crate::cluster::until("its orderly end", || node.has_ended()).await;
            assert_eq!(code, 0, "{}", node.log_tail(40));
            node.spawn();
            node.until_ready(&http).await;
        }
    }
    shared.stop();
    for client in load {
        tokio::time::timeout(PATIENCE, client)
            .await
            .expect("in time")
            .expect("a client");
    }
    let history = shared.history();
    let refused = history.calls.iter().filter(|c| {
        // Contenders for one version refuse each other; that is what they ask for.
        c.private && !matches!(c.outcome, Outcome::Acknowledged { .. })
    });
    assert_eq!(refused.count(), 0);
    let verdict = judge(&history, &collect(&cluster).await);
    assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    eprintln!(
        "{} restarts, {} commands, {} tries repeated, longest wait {} ms",
        ROUNDS * 2,
        verdict.checked.acknowledged,
        shared.retries.load(std::sync::atomic::Ordering::SeqCst),
        shared.longest.load(std::sync::atomic::Ordering::SeqCst) / 1_000
    );
}
