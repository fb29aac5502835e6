//! Names of librdkafka's options: many options have two, and some may be set by the service only.

use std::collections::BTreeMap;

/// Second names of options, with the first name of each.
const ALIASES: [(&str, &str); 11] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("compression.type", "compression.codec"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("retries", "message.send.max.retries"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanism", "sasl.mechanisms"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.id",
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
    ),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
];

/// Options on which the guarantees depend: only the service sets these.
const OWN: [&str; 10] = [
    "bootstrap.servers",
    "acks",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "message.timeout.ms",
    "transactional.id",
    "transaction.timeout.ms",
    "partitioner",
    "message.send.max.retries",
    "queuing.strategy",
];

/// The first name of an option.
pub fn canonical(name: &str) -> &str {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    alias.map_or(name, |(_, canonical)| canonical)
}

/// Options by their first names. Fails if an option was given by both names.
pub fn unambiguous(
    options: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, (String, String)> {
    let mut given: BTreeMap<&str, &str> = BTreeMap::new();
    for name in options.keys() {
        if let Some(other) = given.insert(canonical(name), name) {
            return Err((other.to_owned(), name.clone()));
        }
    }
    let named = options.iter();
    Ok(named
        .map(|(name, value)| (canonical(name).to_owned(), value.clone()))
        .collect())
}

/// Whether only the service may set this option, under either name.
pub fn is_own(name: &str) -> bool {
    OWN.contains(&canonical(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_has_one_name_and_librdkafka_agrees() {
        for (alias, name) in ALIASES {
            assert_eq!((canonical(alias), canonical(name)), (name, name));
            let mut config = rdkafka::ClientConfig::new();
            let value = match name {
                "acks" => "1",
                "message.timeout.ms" => "7000",
                "compression.codec" => "gzip",
                "sasl.mechanisms" => "PLAIN",
                _ => "7",
            };
            config.set(alias, value);
            match config.create_native_config() {
                Ok(native) => assert_eq!(native.get(name).unwrap(), value, "{alias} is {name}"),
                // Not in this build, which is said of the one name.
                Err(e) => assert!(e.to_string().contains(&format!("\"{name}\"")), "{e}"),
            }
        }
    }

    #[test]
    fn two_names_of_one_option_leave_nothing_to_chance() {
        let given = |names: &[&str]| {
            let options = names.iter().map(|n| ((*n).to_owned(), "gzip".to_owned()));
            unambiguous(&options.collect())
        };
        let one = given(&["compression.type"]).unwrap();
        assert_eq!(one.keys().collect::<Vec<_>>(), ["compression.codec"]);
        assert!(given(&["compression.type", "compression.codec"]).is_err());
        assert!(is_own("delivery.timeout.ms") && is_own("retries") && is_own("partitioner"));
        assert!(!is_own("linger.ms"));
    }
}
