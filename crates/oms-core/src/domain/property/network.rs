//! The property types `url` and `email`.

use email_address::{EmailAddress, Options};
use hashbrown::HashSet;
use serde_json::Value;
use url::{Host, Url};

use super::check::{Path, Report, Shown};
use super::compile::Constraints;

/// Longest URL, in bytes: four times what browsers, proxies and CDNs all accept.
pub const MAX_URL_BYTES: usize = 8_192;
/// Longest email address, in bytes (RFC 5321: 64 + `@` + 255).
pub const MAX_EMAIL_BYTES: usize = 320;

/// Which hosts are allowed. A domain includes its subdomains.
#[derive(Debug, Clone, Default)]
pub(super) struct DomainRules {
    allowed: Option<HashSet<Box<str>>>,
    blocked: Option<HashSet<Box<str>>>,
}

impl DomainRules {
    pub fn compile(c: &mut Constraints<'_>) -> Self {
        let domain = |v: &Value| Some(normal_host(v.as_str()?)?.into_boxed_str());
        let mut domains = |key| {
            let list = c.list(key, "a domain", domain)?;
            Some(list.into_iter().collect())
        };
        Self {
            allowed: domains("allowed_domains"),
            blocked: domains("blocked_domains"),
        }
    }

    pub fn are_given(&self) -> bool {
        self.allowed.is_some() || self.blocked.is_some()
    }

    pub fn check(&self, host: &str, at: &Path<'_>, report: &mut Report) {
        if !self.are_given() {
            return;
        }
        let Some(host) = normal_host(host) else {
            let message = format_args!("`{}` is not a host", Shown(host));
            return report.add(at, "type", message);
        };
        if self.allowed.as_ref().is_some_and(|a| !is_within(&host, a)) {
            let message = format_args!("`{}` is not an allowed domain", Shown(&host));
            report.add(at, "allowed_domains", message);
        }
        if self.blocked.as_ref().is_some_and(|b| is_within(&host, b)) {
            let message = format_args!("`{}` is a blocked domain", Shown(&host));
            report.add(at, "blocked_domains", message);
        }
    }
}

/// A host in the form in which hosts are compared: lower case, punycode, no final dot.
fn normal_host(host: &str) -> Option<String> {
    let host = Host::parse(host.strip_suffix('.').unwrap_or(host)).ok()?;
    Some(host.to_string())
}

/// Whether the host or a domain above it is among `domains`.
fn is_within(host: &str, domains: &HashSet<Box<str>>) -> bool {
    let mut rest = Some(host);
    while let Some(domain) = rest {
        if domains.contains(domain) {
            return true;
        }
        rest = domain.split_once('.').map(|(_, above)| above);
    }
    false
}

/// Constraints of a `url`.
#[derive(Debug, Clone)]
pub struct UrlType {
    schemes: Vec<Box<str>>,
    require_https: bool,
    domains: DomainRules,
    max_length: Option<u64>,
}

impl UrlType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        let scheme = |v: &Value| Some(v.as_str()?.to_ascii_lowercase().into_boxed_str());
        Self {
            schemes: c
                .list("schemes", "a scheme such as `https`", scheme)
                .unwrap_or_else(|| vec!["http".into(), "https".into()]),
            require_https: c.flag("require_https"),
            domains: DomainRules::compile(c),
            max_length: c.count("max_length"),
        }
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        let Some(text) = value.as_str() else {
            return report.wrong_type(at, "a URL", value);
        };
        if let Some(max) = self.max_length
            && text.len() as u64 > max
        {
            let message = format_args!("must have at most {max} characters");
            report.add(at, "max_length", message);
        }
        let url = match parse_url(text) {
            Ok(url) => url,
            Err(reason) => {
                let message = format_args!("`{}` is not a URL: {reason}", Shown(text));
                return report.add(at, "type", message);
            }
        };
        if self.require_https {
            check_https(&url, at, report);
        } else if !self.schemes.iter().any(|s| **s == *url.scheme()) {
            let schemes = self.schemes.join(", ");
            let message = format_args!("must begin with one of the schemes {schemes}");
            report.add(at, "schemes", message);
        }
        self.domains
            .check(url.host_str().unwrap_or_default(), at, report);
    }
}

pub(super) fn check_https(url: &Url, at: &Path<'_>, report: &mut Report) {
    if url.scheme() != "https" {
        report.add(
            at,
            "require_https",
            format_args!("must begin with https://"),
        );
    }
}

/// Parses an absolute URL with a host. Refuses malformed ones that the parser would correct, and a
/// user or password, which can make a URL look as if it led elsewhere.
pub(super) fn parse_url(text: &str) -> Result<Url, &'static str> {
    if text.len() > MAX_URL_BYTES {
        return Err("it is too long");
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("it contains white space, a control character or a backslash");
    }
    let Some((_, rest)) = text.split_once("://") else {
        return Err("it has no scheme such as https://");
    };
    if rest.starts_with('/') {
        return Err("it has no host");
    }
    let url = Url::parse(text).map_err(|_| "it is malformed")?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it has no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it contains a user or password");
    }
    Ok(url)
}

/// Whether this is a host name of DNS (RFC 1123), in ASCII.
pub(super) fn is_hostname(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// Constraints of an `email`.
#[derive(Debug, Clone)]
pub struct EmailType {
    domains: DomainRules,
}

impl EmailType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        Self {
            domains: DomainRules::compile(c),
        }
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        let Some(text) = value.as_str() else {
            return report.wrong_type(at, "an email address", value);
        };
        match parse_email(text) {
            Ok(domain) => self.domains.check(domain, at, report),
            Err(reason) => {
                let message = format_args!("`{}` is not an email address: {reason}", Shown(text));
                report.add(at, "type", message);
            }
        }
    }
}

/// Checks an address without display name; returns its domain.
pub(super) fn parse_email(text: &str) -> Result<&str, String> {
    if text.len() > MAX_EMAIL_BYTES {
        return Err("it is too long".to_owned());
    }
    let options = Options::default()
        .without_display_text()
        .without_domain_literal()
        .with_required_tld();
    EmailAddress::parse_with_options(text, options).map_err(|error| error.to_string())?;
    Ok(text.rsplit_once('@').map_or("", |(_, domain)| domain))
}
