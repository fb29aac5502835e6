//! The part of the policy on dependencies that no tool checks; licences, bans and sources are in
//! `.config/deny.toml`.

use std::fs;
use std::path::Path;

#[test]
fn every_direct_dependency_says_why_it_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let members = fs::read_dir(root.join("crates")).unwrap();
    let members = members.map(|member| member.unwrap().path());
    let mut direct = 0;
    for folder in members.chain([root.to_owned()]) {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let mut section = "";
        for line in manifest.lines() {
            let is_entry = !line.is_empty() && !line.starts_with('#');
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]")
                // Versions alone: who needs it says why.
                && section != "[workspace.dependencies]"
                && is_entry
            {
                direct += 1;
                let reason = line.rsplit_once(" # ").map(|(_, reason)| reason.trim());
                let at = folder.display();
                assert!(
                    reason.is_some_and(|r| r.len() >= 5),
                    "{at}: no reason: {line}"
                );
            }
        }
    }
    assert!(direct > 100, "found only {direct} direct dependencies");
}
