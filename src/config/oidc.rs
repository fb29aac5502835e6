//! Who signs in with an OpenID Connect provider: JSON Web Tokens that it signed are taken beside the
//! configured tokens.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::duration;
use super::problems::Problems;
use crate::store::adapters::tls;

/// The principal of who signed in begins with it, so that nobody can choose the name of a configured
/// token.
pub const PRINCIPAL_PREFIX: &str = "oidc:";

/// Whose subject nobody else gets (OpenID Connect Core, 5.7).
const PRINCIPAL_CLAIM: &str = "sub";

/// Clocks that are set by NTP differ by less than a second; some are not.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// More would let tokens outlive what their issuer said.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(600);

/// Sign-in by an OpenID Connect provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OidcConfig {
    /// The provider's address, exactly as it calls itself: `https://login.example/realms/acme`. Its
    /// keys are found by `/.well-known/openid-configuration` below it. Without it nobody signs in so.
    pub issuer: Option<String>,
    /// What the provider calls this service: a token is taken if its `aud` has one of these.
    pub audience: Vec<String>,
    /// The claim that says who somebody is; the principal is that with `oidc:` before it. Of a claim that
    /// people may change, or that is given to somebody else later, one becomes the other.
    pub principal_claim: String,
    /// The claim with what somebody may do: a list, or words between spaces; `realm_access.roles` is
    /// looked for within objects where no claim has that name.
    pub roles_claim: String,
    /// Values of `roles_claim` that give the role `read`.
    pub read: Vec<String>,
    /// Values of `roles_claim` that give the role `write`.
    pub write: Vec<String>,
    /// Values of `roles_claim` that give the role `admin`.
    pub admin: Vec<String>,
    /// So much may the clocks of provider and service differ, at most ten minutes.
    #[serde(with = "duration")]
    pub clock_skew: Duration,
    /// PEM file with the authority of the provider's certificate, where the usual ones did not sign it.
    pub ca: Option<PathBuf>,
}

impl Default for OidcConfig {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: Vec::new(),
            principal_claim: PRINCIPAL_CLAIM.into(),
            roles_claim: "roles".into(),
            read: Vec::new(),
            write: Vec::new(),
            admin: Vec::new(),
            clock_skew: CLOCK_SKEW,
            ca: None,
        }
    }
}

impl OidcConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        let Some(issuer) = &self.issuer else {
            problems.require(
                *self == Self::default(),
                "auth.oidc.issuer",
                "must be the provider's address: the rest of auth.oidc means nothing without it",
            );
            return;
        };
        match provider_url(issuer) {
            Ok(url) => problems.require(
                url.query().is_none() && url.fragment().is_none(),
                "auth.oidc.issuer",
                "must have neither a query nor a fragment",
            ),
            Err(why) => problems.add("auth.oidc.issuer", why),
        }
        problems.require(
            !self.audience.is_empty() && self.audience.iter().all(|a| !a.trim().is_empty()),
            "auth.oidc.audience",
            "must name what the provider calls this service: without it every token of that provider, \
             for whatever service, would be let in",
        );
        for (key, claim) in [
            ("auth.oidc.principal_claim", &self.principal_claim),
            ("auth.oidc.roles_claim", &self.roles_claim),
        ] {
            problems.require(!claim.trim().is_empty(), key, "must name a claim");
        }
        let values: Vec<_> = [&self.read, &self.write, &self.admin]
            .into_iter()
            .flatten()
            .collect();
        problems.require(
            !values.is_empty(),
            "auth.oidc",
            "must say in read, write or admin which values of roles_claim give that role: nobody has \
             any by default",
        );
        for value in values {
            if value.is_empty() || value.trim() != value {
                let message = format!("{value:?} is no value of a claim with roles");
                problems.add("auth.oidc", message);
            }
        }
        problems.require(
            self.clock_skew <= MAX_CLOCK_SKEW,
            "auth.oidc.clock_skew",
            "must be at most 10m, or tokens would outlive what their issuer said by more",
        );
        if let Some(file) = &self.ca
            && let Err(error) = tls::named_roots(file)
        {
            problems.add("auth.oidc.ca", error.to_string());
        }
    }
}

/// An address of the provider: `https`, or on this machine.
pub fn provider_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    let local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err("must be an https:// address".into()),
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && local) {
        return Err(
            "must be an https:// address: over http anybody on the way could hand out keys; only on \
             this machine http will do"
                .into(),
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a password".into());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in [
            "https://login.example/realms/acme",
            "http://127.0.0.1:9000",
            "http://localhost/x",
            "http://[::1]:80",
        ] {
            assert!(provider_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://login.example",
            "http://10.0.0.1",
            "login.example",
            "ftp://login.example",
            "https://me:secret@login.example",
            "",
        ] {
            assert!(provider_url(bad).is_err(), "{bad}");
        }
    }

    fn wrong(config: &OidcConfig) -> Vec<String> {
        let mut problems = Problems::default();
        config.check(&mut problems);
        problems.0.into_iter().map(|p| p.key).collect()
    }

    #[test]
    fn nobody_is_let_in_by_a_default() {
        assert!(wrong(&OidcConfig::default()).is_empty());
        let issuer = Some("https://login.example".to_owned());
        let only = OidcConfig {
            issuer,
            ..OidcConfig::default()
        };
        assert_eq!(wrong(&only), ["auth.oidc.audience", "auth.oidc"]);
        let whole = OidcConfig {
            audience: vec!["oms".into()],
            read: vec!["oms-reader".into()],
            ..only
        };
        assert!(wrong(&whole).is_empty());
        let unused = OidcConfig {
            issuer: None,
            ..whole.clone()
        };
        assert_eq!(wrong(&unused), ["auth.oidc.issuer"]);
        let spaced = OidcConfig {
            issuer: Some("https://login.example?x=1".into()),
            admin: vec!["a b".into(), " a".into()],
            clock_skew: Duration::from_secs(3600),
            ..whole
        };
        let keys = ["auth.oidc.issuer", "auth.oidc", "auth.oidc.clock_skew"];
        assert_eq!(wrong(&spaced), keys);
    }
}
