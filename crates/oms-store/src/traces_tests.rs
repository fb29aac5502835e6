use std::task::Poll;

use super::*;

/// A recorder of its own, not the process's.
fn recorder_of(capacity: usize) -> (&'static Recorder, mpsc::Receiver<FinishedSpan>) {
    let (recorder, queue) = Recorder::new(1.0, capacity, || Timestamp::UNIX_EPOCH);
    (Box::leak(Box::new(recorder)), queue)
}

fn context(trace: u128, span: u64) -> TraceContext {
    TraceContext {
        trace,
        span,
        sampled: true,
    }
}

#[test]
fn a_callers_trace_goes_on_and_so_does_what_it_decided() {
    let (recorder, _queue) = recorder_of(1);
    for sampled in [true, false] {
        let caller = TraceContext {
            sampled,
            ..context(7, 9)
        };
        let ours = recorder.request(Some(caller));
        assert_eq!((ours.trace, ours.sampled), (7, sampled));
        assert_ne!(ours.span, 9);
    }
    assert_ne!(recorder.request(None).trace, recorder.request(None).trace);
}

#[test]
fn the_ratio_is_the_share_of_traces_that_are_recorded() {
    let mut recorded = 0;
    for _ in 0..10_000 {
        let trace = rand::rng().random_range(1..=u128::MAX);
        assert!(is_sampled(trace, 1.0) && !is_sampled(trace, 0.0));
        // Whoever records a tenth records those of whoever records a hundredth.
        assert!(!is_sampled(trace, 0.01) || is_sampled(trace, 0.1));
        recorded += usize::from(is_sampled(trace, 0.25));
    }
    assert!((2200..2800).contains(&recorded), "{recorded} of 10000");
}

#[test]
fn a_span_is_recorded_when_it_ends_unless_its_trace_is_not() {
    let (recorder, mut queue) = recorder_of(4);
    let mut span = Span::begin(recorder, context(7, 2), Some(1), Kind::Client, "call");
    span.set("oms.partition", 3_u64);
    span.fail("timeout");
    span.began_before(std::time::Duration::from_secs(2));
    assert!(queue.try_recv().is_err());
    drop(span);
    let span = queue.try_recv().unwrap();
    assert_eq!((span.context, span.parent), (context(7, 2), Some(1)));
    assert!(span.failed);
    // The clock of the test stands at 0, before which nothing begins.
    assert!(span.end - span.start >= 2_000_000_000, "{span:?}");
    let attributes = [
        ("oms.partition", Value::Number(3)),
        ("error.type", Value::Text("timeout".into())),
    ];
    assert_eq!(span.attributes, attributes);
    let unsampled = TraceContext {
        sampled: false,
        ..context(7, 2)
    };
    let span = Span::begin(recorder, unsampled, None, Kind::Server, "request");
    assert_eq!(span.context(), Some(unsampled));
    drop(span);
    assert!(queue.try_recv().is_err());
}

#[test]
fn law_13_what_finds_the_queue_full_is_dropped_and_counted() {
    let exporter = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let shown = exporter.handle();
    let (recorder, mut queue) = recorder_of(2);
    let span = || {
        let context = context(7, 2);
        drop(Span::begin(recorder, context, None, Kind::Internal, "work"));
    };
    metrics::with_local_recorder(&exporter, || (0..5).for_each(|_| span()));
    let line = format!("{SPANS_DROPPED}{{reason=\"queue_full\"}} 3");
    assert!(shown.render().contains(&line), "{}", shown.render());
    assert!(recorder.told.load(Ordering::Relaxed));
    assert!(queue.try_recv().is_ok() && queue.try_recv().is_ok() && queue.try_recv().is_err());
}

#[test]
fn shared_work_is_in_every_trace_once_and_linked() {
    let (recorder, mut queue) = recorder_of(8);
    let unsampled = TraceContext {
        sampled: false,
        ..context(9, 1)
    };
    let parents = [
        context(2, 20),
        context(1, 10),
        context(2, 20),
        unsampled,
        context(2, 21),
    ];
    let mut shared = SharedSpan::begin_in(recorder, parents, Kind::Client, "put");
    shared.set("oms.offset", 5_u64);
    drop(shared);
    let first = queue.try_recv().unwrap();
    let second = queue.try_recv().unwrap();
    assert!(queue.try_recv().is_err());
    assert_eq!((first.context.trace, first.parent), (1, Some(10)));
    assert_eq!((second.context.trace, second.parent), (2, Some(20)));
    assert!(first.links.is_empty());
    assert_eq!(second.links, [context(2, 21), first.context]);
    for span in [first, second] {
        assert_eq!(span.attributes, [("oms.offset", Value::Number(5))]);
    }
}

#[test]
fn links_are_limited_and_those_beyond_are_counted() {
    let (recorder, mut queue) = recorder_of(1);
    let parents = (1..=200).map(|span| context(1, span));
    drop(SharedSpan::begin_in(recorder, parents, Kind::Client, "put"));
    let span = queue.try_recv().unwrap();
    assert_eq!((span.links.len(), span.dropped_links), (128, 71));
}

#[test]
fn the_current_trace_is_the_one_of_the_work_that_runs() {
    let mut polled = false;
    let work = poll_fn(|cx| {
        assert_eq!(current(), Some(context(1, 1)));
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        Poll::Pending
    });
    let mut work = pin!(within(Some(context(1, 1)), work));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(work.as_mut().poll(&mut cx).is_pending());
    assert_eq!(current(), None, "between two polls another one may run");
    assert!(work.as_mut().poll(&mut cx).is_ready());
    let outer = enter(Some(context(2, 2)));
    drop(enter(Some(context(3, 3))));
    assert_eq!(current(), Some(context(2, 2)));
    drop(outer);
    assert_eq!(current(), None);
}

#[test]
fn without_a_recorder_nothing_is_made() {
    assert!(!is_on());
    let span = Span::request(Some(context(1, 1)));
    assert_eq!((span.context(), span.is_recorded()), (None, false));
    let child = Span::child(Some(context(1, 1)), Kind::Internal, "work");
    assert_eq!(child.context(), None);
}
