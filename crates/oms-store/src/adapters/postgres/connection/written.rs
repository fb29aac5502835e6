//! A connection string taken apart, as it is written: URLs of every kind, and `key=value` pairs.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::Refused;

const FORM: &str =
    "must be a URL such as postgres://user:password@host:5432/db, or key=value pairs";

/// Where it looks as if a character of the password was taken for the end of it.
const CUT: &str = "cannot be read: in a URL the characters / ? # @ & of a password are written %2F %3F \
                   %23 %40 %26";

/// A name with its value.
#[derive(Clone, PartialEq, Eq)]
struct Pair {
    name: String,
    value: String,
    /// Whether the name can be told: what looks like one may be a piece of a password.
    tellable: bool,
}

/// The names and values of a connection string, in their order. Nothing is known yet of what they
/// mean.
#[derive(Clone, PartialEq, Eq)]
pub struct Written {
    jdbc: bool,
    pairs: Vec<Pair>,
}

/// A value, and who gave it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub value: String,
    /// Whether the name can be told.
    pub tellable: bool,
    /// Whether the string itself or a key of the configuration says so, not the environment.
    pub explicit: bool,
    /// Whether it comes from a URL of JDBC, whose words have other meanings.
    pub jdbc: bool,
}

impl Written {
    /// Whether a text has the form of a URL, rather than of pairs.
    pub fn is_url(text: &str) -> bool {
        text.trim().starts_with("jdbc:") || scheme(text.trim()).is_some()
    }

    /// Takes a connection string apart.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("jdbc:postgresql:") {
            // Without `//` it is a database of this machine.
            let rest = match rest.strip_prefix("//") {
                Some(rest) => rest.to_owned(),
                None => format!("localhost/{}", rest.trim_start_matches('/')),
            };
            return url(&rest, true).map(|pairs| Self { jdbc: true, pairs });
        }
        let pairs = match scheme(text) {
            // The name of a driver of SQLAlchemy may follow.
            Some((scheme, rest)) => match scheme.split('+').next() {
                Some("postgres" | "postgresql") => url(rest, false)?,
                _ => return Err(Refused(FORM.into())),
            },
            None if text.contains('=') => pairs(text)?,
            None => return Err(Refused(FORM.into())),
        };
        Ok(Self { jdbc: false, pairs })
    }

    /// What is said of a name; what is said last counts, and an empty text says nothing.
    pub fn get(&self, name: &str) -> Option<&str> {
        let said = |pair: &&Pair| pair.name == name && !pair.value.is_empty();
        let last = self.pairs.iter().rev().find(said);
        last.map(|pair| pair.value.as_str())
    }

    /// All of it, by name.
    pub(super) fn given(&self) -> BTreeMap<String, Given> {
        let given = |pair: &Pair| Given {
            value: pair.value.clone(),
            tellable: pair.tellable,
            explicit: true,
            jdbc: self.jdbc,
        };
        let all = self.pairs.iter().map(|p| (p.name.clone(), given(p)));
        all.filter(|(_, given)| !given.value.is_empty()).collect()
    }

    /// Each host with its port, for people.
    pub fn places(&self) -> Vec<String> {
        let ports: Vec<&str> = self.get("port").unwrap_or_default().split(',').collect();
        let hosts = self.get("host").or(self.get("hostaddr"));
        let place = |(i, host): (usize, &str)| {
            let port = ports.get(i).or(ports.first()).copied();
            let port = port.filter(|port| !port.is_empty()).unwrap_or("5432");
            match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            }
        };
        let hosts = hosts.into_iter().flat_map(|hosts| hosts.split(','));
        hosts.enumerate().map(place).collect()
    }
}

/// The scheme of a URL, and what follows.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b':' | b'-' | b'_');
    text.split_once("://")
        .filter(|(scheme, _)| !scheme.is_empty() && scheme.bytes().all(word))
}

fn pair(name: &str, value: impl Into<String>) -> Pair {
    Pair {
        name: name.to_owned(),
        value: value.into(),
        tellable: true,
    }
}

/// Whether a text has the form of a parameter's name.
fn is_name(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// What follows `://`.
fn url(rest: &str, jdbc: bool) -> Result<Vec<Pair>, Refused> {
    let decoded = |text: &str| {
        let text = if jdbc {
            text.replace('+', " ")
        } else {
            text.to_owned()
        };
        let text = percent_decode_str(&text).decode_utf8();
        let text = text.map_err(|_| Refused("holds bytes that are not UTF-8".into()));
        text.map(|text| text.into_owned())
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let mut pairs = Vec::new();
    // The last one: a password may have others in it.
    let (account, hosts) = match authority.rsplit_once('@') {
        Some((account, hosts)) => (Some(account), hosts),
        None => (None, authority),
    };
    if let Some(account) = account {
        let (user, password) = account.split_once(':').unwrap_or((account, ""));
        pairs.push(pair("user", decoded(user)?));
        pairs.push(pair("password", decoded(password)?));
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let cut = path.contains('@') || (path.is_empty() && query.contains('@'));
    if (account.is_none() && !jdbc && cut) || path.contains('@') {
        return Err(Refused(CUT.into()));
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for place in hosts.split(',') {
        let (name, port) = host_and_port(place)?;
        names.push(decoded(name)?);
        ports.push(decoded(port)?);
    }
    // As libpq, the parameter `port` holds where the URL itself has none.
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.push(pair("port", ports.join(",")));
    }
    pairs.push(pair("host", names.join(",")));
    pairs.push(pair("dbname", decoded(path.trim_start_matches('/'))?));
    let mut after_password = false;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(Refused(format!("has a parameter without `=`, or {CUT}")));
        };
        pairs.push(Pair {
            name: decoded(name)?,
            value: decoded(value)?,
            // An `@` or an `&` may have been meant for a password.
            tellable: is_name(name) && !after_password && !parameter.contains('@'),
        });
        after_password |= name == "password";
    }
    Ok(pairs)
}

fn host_and_port(place: &str) -> Result<(&str, &str), Refused> {
    let odd = || Refused::parameter("host", "has a bracket without its other half");
    let (name, rest) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(odd)?,
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) if port.contains(':') => Err(Refused(format!(
            "{CUT}; an IPv6 address stands in brackets"
        ))),
        Some(port) => Ok((name, port)),
        None if rest.is_empty() => Ok((name, "")),
        None => Err(odd()),
    }
}

/// `key=value` pairs with libpq's quoting: `'…'` around values with blanks, a backslash before a quote
/// or a backslash.
fn pairs(text: &str) -> Result<Vec<Pair>, Refused> {
    let mut rest = text.chars().peekable();
    let mut found: Vec<Pair> = Vec::new();
    let mut after_bare_password = false;
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(found);
        }
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
            name.push(c);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next_if_eq(&'=').is_none() {
            return Err(Refused(
                "has a word without `=`: a value with blanks stands in quotes, key='a value'"
                    .into(),
            ));
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = rest.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match rest.next() {
                Some('\\') => value.extend(rest.next()),
                Some('\'') if quoted => break,
                Some(c) if c.is_whitespace() && !quoted => break,
                Some(c) => value.push(c),
                None if quoted => return Err(Refused("has a quote that is not closed".into())),
                None => break,
            }
        }
        let tellable = is_name(&name) && !after_bare_password;
        after_bare_password |= name == "password" && !quoted;
        found.push(Pair {
            name,
            value,
            tellable,
        });
    }
}
