//! How fast an import is; run by hand with `--ignored --nocapture`.

use super::world::{PLAIN, PLAIN_TOML, World, import, start};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure() {
    for (streams, payload) in [(20_000, 300), (200, 300), (20_000, 1_000)] {
        const EVENTS: u32 = 400_000;
        let world = World::new(PLAIN).await;
        let rows = format!(
            "ALTER TABLE events SET UNLOGGED; \
             INSERT INTO events (stream, version, data) \
             SELECT 's' || (i % {streams}), i / {streams} + 1, \
                    '{{\"n\":' || i || ',\"text\":\"' || repeat('x', {payload}) || '\"}}' \
             FROM generate_series(0, {EVENTS} - 1) i; ANALYZE events"
        );
        world.foreign.batch_execute(&rows).await.expect("rows");
        let begun = std::time::Instant::now();
        let status = import(&world.importer(PLAIN_TOML), start()).await;
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(status.written, u64::from(EVENTS));
        println!(
            "{EVENTS} events of {payload} bytes in {streams} streams: {:.0} events/s",
            f64::from(EVENTS) / seconds
        );
    }
}
