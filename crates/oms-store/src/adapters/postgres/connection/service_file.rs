//! libpq's service files: parameters under a name, in `~/.pg_service.conf` or where `PGSERVICEFILE`
//! says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Refused;
use super::environment::Environment;
use super::written::Given;

/// Adds what the service that is named says, where nothing stronger is said.
pub(super) fn add(
    given: &mut BTreeMap<String, Given>,
    environment: &Environment,
) -> Result<(), Refused> {
    let (name, from) = match (given.get("service"), environment.get("PGSERVICE")) {
        (Some(given), _) => (given.value.clone(), "service"),
        (None, Some(name)) => (name.to_owned(), "PGSERVICE"),
        (None, None) => return Ok(()),
    };
    let own = given.get("servicefile").map(|g| PathBuf::from(&g.value));
    let own = own
        .or_else(|| environment.path("PGSERVICEFILE"))
        .or_else(|| environment.at_home(".pg_service.conf"));
    let system = environment.path("PGSYSCONFDIR");
    let system = system.map(|dir| dir.join("pg_service.conf"));
    let mut looked = Vec::new();
    for path in own.into_iter().chain(system) {
        let shown = path.display();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                if let Some(said) = section(&text, &name) {
                    let said = said.map_err(|line| {
                        let reason = format!("names a service whose line {line} in {shown} is not");
                        Refused::parameter(from, format!("{reason} key=value, or names a service"))
                    })?;
                    for (name, value) in said {
                        given.entry(name).or_insert(value);
                    }
                    return Ok(());
                }
                looked.push(format!("{shown} has no section of that name"));
            }
            Err(e) => looked.push(format!("{shown}: {e}")),
        }
    }
    if looked.is_empty() {
        looked.push("there is no home directory and no PGSERVICEFILE".to_owned());
    }
    Err(Refused::parameter(
        from,
        format!("names a service that is not found: {}", looked.join("; ")),
    ))
}

type Said = BTreeMap<String, Given>;

/// What a file says under a name, or the number of the line that cannot be read; `None` if it has no
/// such section.
fn section(text: &str, wanted: &str) -> Option<Result<Said, usize>> {
    let (mut inside, mut said) = (false, None::<Said>);
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            // As libpq: the first section of a name counts.
            if said.is_some() {
                break;
            }
            inside = name == wanted;
            if inside {
                said = Some(Said::new());
            }
            continue;
        }
        let Some(said) = said.as_mut().filter(|_| inside) else {
            continue;
        };
        match line.split_once('=') {
            Some((name, value)) if name != "service" => {
                let value = Given {
                    value: value.to_owned(),
                    tellable: true,
                    explicit: true,
                    jdbc: false,
                };
                said.entry(name.trim_end().to_owned()).or_insert(value);
            }
            _ => return Some(Err(number + 1)),
        }
    }
    said.map(Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_of_the_name_is_read_and_no_other() {
        let text = "# ours\n[a]\nhost=one\n\n[b]\nhost=two\nport=7\nhost=three\n[c]\nnonsense\n";
        let found = section(text, "b").unwrap().unwrap_or_default();
        assert_eq!((found.len(), &*found["host"].value), (2, "two"));
        assert!(section(text, "d").is_none());
        assert_eq!(section(text, "c").unwrap().err(), Some(10));
    }
}
