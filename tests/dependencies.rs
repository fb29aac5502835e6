//! The part of the policy on dependencies that no tool checks; licences, bans and sources are in
//! `.config/deny.toml`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[test]
fn every_direct_dependency_says_why_it_is_there() {
    let mut section = "";
    let mut direct = 0;
    for line in include_str!("../Cargo.toml").lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies") && !line.is_empty() && !line.starts_with('#') {
            direct += 1;
            let reason = line.rsplit_once(" # ").map(|(_, reason)| reason.trim());
            assert!(reason.is_some_and(|r| r.len() >= 5), "no reason: {line}");
        }
    }
    assert!(direct > 30, "found only {direct} direct dependencies");
}
