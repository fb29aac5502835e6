//! Clocks that differ, and which of them is wrong.

use jiff::Timestamp;

use super::check::Finding;

/// Up to so many seconds nobody notices; the header `Date` has whole seconds.
const NOTICEABLE: f64 = 2.0;

/// From so many seconds on requests are at risk: S3 refuses those that are off by 15 minutes.
const DANGEROUS: f64 = 300.0;

/// What to do about clocks that differ.
pub const ADVICE: &str = "synchronise both machines by NTP (chrony, systemd-timesyncd): times of \
                          events come from one clock, deadlines of leases from the other, and S3 \
                          refuses signatures that are 15 minutes off";

/// By how many seconds a server is ahead at least, by its header `Date` in an answer that was asked
/// for at `before` and came at `after`: when in between it looked at its clock is not known.
pub fn ahead(date: &str, before: Timestamp, after: Timestamp) -> Option<f64> {
    let told = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let seconds = |at: Timestamp| at.as_duration().as_secs_f64();
    // Its fraction was cut off: half a second on average.
    let there = seconds(told) + 0.5;
    let ahead = there - (seconds(before) + seconds(after)) / 2.0;
    Some(at_least(
        ahead,
        (seconds(after) - seconds(before)) / 2.0 + 0.5,
    ))
}

/// What is left of a difference that may be off by `error` seconds either way.
pub fn at_least(ahead: f64, error: f64) -> f64 {
    ahead.signum() * (ahead.abs() - error.max(0.0)).max(0.0)
}

/// The clock of a server, as seen from here.
pub fn server(ahead: f64) -> Finding {
    let seen = format!("{} this machine's", apart(ahead));
    match ahead.abs() {
        off if off < NOTICEABLE => Finding::ok(seen),
        off if off < DANGEROUS => Finding::warning(seen, ADVICE),
        _ => Finding::failed(seen, ADVICE),
    }
}

fn apart(ahead: f64) -> String {
    match ahead {
        _ if ahead.abs() < NOTICEABLE => format!("within {NOTICEABLE:.0} s of"),
        _ if ahead > 0.0 => format!("{ahead:.0} s ahead of"),
        _ => format!("{:.0} s behind", -ahead),
    }
}

/// This machine's clock, by those of servers: it is the wrong one if all of several differ from it
/// in the same way.
pub fn own(servers: &[(&'static str, f64)]) -> Finding {
    let names: Vec<&str> = servers.iter().map(|(name, _)| *name).collect();
    let off = |ahead: f64| ahead.abs() >= NOTICEABLE;
    let same_way = servers.iter().all(|(_, ahead)| off(*ahead) && *ahead > 0.0)
        || servers.iter().all(|(_, ahead)| off(*ahead) && *ahead < 0.0);
    match servers {
        [] => Finding::skipped("there is no other clock to compare it with"),
        [_, _, ..] if same_way => Finding::warning(
            format!(
                "{} agree that this machine's clock is wrong",
                names.join(" and ")
            ),
            "synchronise this machine by NTP (chrony, systemd-timesyncd)",
        ),
        _ => {
            let agreeing = servers.iter().filter(|(_, ahead)| !off(*ahead));
            let agreeing: Vec<&str> = agreeing.map(|(name, _)| *name).collect();
            match agreeing.as_slice() {
                [] => Finding::skipped("one other clock differs: which is wrong is not known"),
                some => Finding::ok(format!("agrees with {}", some.join(", "))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn a_date_is_compared_with_the_middle_of_the_request() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let (before, after) = (at("1994-11-06T08:49:37Z"), at("1994-11-06T08:49:38Z"));
        assert!(ahead(date, before, after).unwrap().abs() < 0.001);
        let late = ahead(date, at("1994-11-06T08:48:37Z"), at("1994-11-06T08:48:38Z")).unwrap();
        assert!(
            (late - 59.0).abs() < 0.001,
            "{late}: half a second for the fraction, as much for the way"
        );
        let slow = ahead(date, at("1994-11-06T08:49:37Z"), at("1994-11-06T08:49:57Z")).unwrap();
        assert!(
            slow.abs() < 0.001,
            "a slow answer is no wrong clock: {slow}"
        );
        assert_eq!(ahead("yesterday", before, after), None);
    }

    #[test]
    fn the_further_the_worse() {
        for (ahead, verdict) in [
            (0.4, Verdict::Ok),
            (-1.9, Verdict::Ok),
            (3.0, Verdict::Warning),
            (-900.0, Verdict::Failed),
        ] {
            assert_eq!(server(ahead).verdict, verdict, "{ahead}");
        }
        assert!(server(-900.0).seen.contains("900 s behind"));
    }

    #[test]
    fn several_servers_that_agree_show_whose_clock_is_wrong() {
        let (s3, pg) = (("S3", 60.0), ("PostgreSQL", 61.0));
        assert_eq!(own(&[]).verdict, Verdict::Skipped);
        assert_eq!(own(&[s3, pg]).verdict, Verdict::Warning);
        assert_eq!(own(&[s3]).verdict, Verdict::Skipped);
        let one_is_wrong = own(&[s3, ("PostgreSQL", 0.1)]);
        assert_eq!(one_is_wrong.verdict, Verdict::Ok);
        assert!(one_is_wrong.seen.contains("PostgreSQL") && !one_is_wrong.seen.contains("S3"));
        let opposite = own(&[s3, ("PostgreSQL", -60.0)]);
        assert_eq!(opposite.verdict, Verdict::Skipped);
    }
}
