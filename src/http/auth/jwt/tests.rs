use oms_testkit::provider::SigningKey;
use serde_json::json;

use super::*;

fn expected() -> Expected {
    let values = |value: &str| vec![value.to_owned()];
    Expected {
        issuer: "https://login.example".into(),
        audience: values("oms"),
        principal_claim: "sub".into(),
        principal_prefix: "oidc:",
        roles_claim: "roles".into(),
        read: values("reader"),
        write: values("writer"),
        admin: values("boss"),
        skew_seconds: 60,
    }
}

/// When the tokens of these tests are looked at.
const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn claims() -> Value {
    json!({
        "iss": "https://login.example", "aud": "oms", "sub": "alice", "exp": NOW + 300,
        "roles": ["reader", "other"],
    })
}

fn keys(keys: &[&SigningKey]) -> Vec<Arc<Jwk>> {
    let keys = keys.iter().map(|key| key.public());
    shown(keys.collect())
}

fn shown(keys: Value) -> Vec<Arc<Jwk>> {
    let keys: Vec<Jwk> = serde_json::from_value(keys).unwrap();
    keys.into_iter().map(Arc::new).collect()
}

fn with(changed: &[(&str, Value)]) -> Value {
    let mut claims = claims();
    for (name, value) in changed {
        claims[*name] = value.clone();
    }
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn read_now(token: &str, keys: &[Arc<Jwk>]) -> Result<Claimed, Rejected> {
    signatures::install();
    read(token, keys, &expected(), now())
}

#[test]
fn whoever_the_provider_signs_for_is_known_with_the_roles_that_were_given() {
    let key = SigningKey::new("k1");
    let set = keys(&[&key, &SigningKey::new("k2")]);
    let who = read_now(&key.token(&claims()), &set).unwrap();
    assert_eq!(&*who.principal, "oidc:alice");
    assert_eq!(who.roles.names(), ["read"]);
    assert_eq!(who.expires.as_second(), NOW + 360);
    for (given, roles) in [
        (json!({"roles": "boss writer"}), vec!["write", "admin"]),
        (json!({"roles": ["Reader", 7]}), vec![]),
        (json!({"roles": {"reader": true}}), vec![]),
        (json!({"roles": null}), vec![]),
    ] {
        let token = key.token(&with(&[("roles", given["roles"].clone())]));
        assert_eq!(
            read_now(&token, &set).unwrap().roles.names(),
            roles,
            "{given}"
        );
    }
    // A list of audiences, a time with a fraction, a type of its own for access.
    let other = with(&[
        ("aud", json!(["billing", "oms"])),
        ("exp", json!(NOW as f64 + 10.5)),
        ("nbf", json!(NOW + 30)),
    ]);
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "k1"});
    assert!(read_now(&key.token_with(&header, &other), &set).is_ok());
}

#[test]
fn claims_within_objects_are_found_and_those_with_dots_in_their_name_first() {
    signatures::install();
    let key = SigningKey::new("k1");
    let expected = Expected {
        principal_claim: "https://acme.example/name".into(),
        roles_claim: "realm_access.roles".into(),
        ..expected()
    };
    let roles_of = |claims: &Value| {
        let token = key.token(claims);
        let who = read(&token, &keys(&[&key]), &expected, now()).unwrap();
        assert_eq!(&*who.principal, "oidc:Alice A.");
        who.roles.names()
    };
    let nested = with(&[
        ("https://acme.example/name", json!("Alice A.")),
        ("realm_access", json!({"roles": ["writer"]})),
    ]);
    assert_eq!(roles_of(&nested), ["write"]);
    let mut dotted = nested.clone();
    dotted["realm_access"] = json!({});
    dotted["realm_access.roles"] = json!(["reader"]);
    assert_eq!(roles_of(&dotted), ["read"]);
    let inner = json!({"a.b": {"c.d": ["x"]}});
    let path = inner.as_object().unwrap();
    assert_eq!(found(path, "a.b.c.d"), Some(&json!(["x"])));
    assert_eq!(found(path, "a.b.d"), None);
    let mut plain = nested;
    plain["realm_access.roles"] = json!("reader");
    assert_eq!(roles_of(&plain), ["read"]);
}

#[test]
fn law_13_what_the_provider_did_not_sign_for_this_service_and_this_hour_is_refused() {
    let key = SigningKey::new("k1");
    let set = keys(&[&key]);
    let refused: &[(&str, Value, &str)] = &[
        (
            "another issuer",
            with(&[("iss", json!("https://evil.example"))]),
            "iss",
        ),
        ("no issuer", without("iss"), "iss"),
        (
            "an issuer that is no text",
            with(&[("iss", json!(7))]),
            "iss",
        ),
        (
            "another audience",
            with(&[("aud", json!("billing"))]),
            "aud",
        ),
        ("no audience", without("aud"), "aud"),
        ("an empty audience", with(&[("aud", json!([]))]), "aud"),
        ("no end", without("exp"), "exp"),
        (
            "an end that is a text",
            with(&[("exp", json!("4102444800"))]),
            "exp",
        ),
        (
            "an end that has passed",
            with(&[("exp", json!(NOW - 61))]),
            "expired",
        ),
        (
            "an end before 1970",
            with(&[("exp", json!(-1e300))]),
            "expired",
        ),
        (
            "a beginning to come",
            with(&[("nbf", json!(NOW + 61))]),
            "not valid yet",
        ),
        (
            "a beginning that is a text",
            with(&[("nbf", json!("0"))]),
            "nbf",
        ),
        ("nobody", without("sub"), "sub"),
        ("an empty name", with(&[("sub", json!(""))]), "sub"),
        (
            "a name with a line end",
            with(&[("sub", json!("a\nb"))]),
            "sub",
        ),
        (
            "a name that is too long",
            with(&[("sub", json!("x".repeat(401)))]),
            "sub",
        ),
        ("a name that is a number", with(&[("sub", json!(1))]), "sub"),
    ];
    for (what, claims, why) in refused {
        match read_now(&key.token(claims), &set) {
            Err(Rejected::Invalid(said)) => assert!(said.contains(why), "{what}: {said}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn law_13_a_token_cannot_choose_how_it_is_checked() {
    let key = SigningKey::new("k1");
    let set = keys(&[&key]);
    let public = key.public();
    for header in [
        json!({"alg": "none", "kid": "k1"}),
        json!({"alg": "None", "kid": "k1"}),
        json!({"alg": "HS256", "kid": "k1"}),
        json!({"alg": "RS256", "kid": "k1"}),
        json!({"alg": "ES384", "kid": "k1"}),
        json!({"alg": "EdDSA", "kid": "k1"}),
        json!({"alg": "ES256", "kid": "k1", "typ": "logout+jwt"}),
        json!({"alg": "ES256", "kid": "k1", "typ": "dpop+jwt"}),
        json!({"alg": "ES256", "kid": "k1", "crit": ["exp"]}),
        json!({"alg": "ES256", "kid": "k2"}),
        json!({"alg": "ES256", "kid": 1}),
        json!({"kid": "k1"}),
    ] {
        let token = key.token_with(&header, &claims());
        assert!(read_now(&token, &set).is_err(), "{header}");
    }
    // Keys that a token brings along are not looked at.
    let thief = SigningKey::new("k1");
    let header =
        json!({"alg": "ES256", "kid": "k1", "jwk": thief.public(), "jku": "https://evil.example"});
    let stolen = thief.token_with(&header, &claims());
    let bad = Err(Rejected::Invalid(
        "its signature is not that of the provider".into(),
    ));
    assert_eq!(read_now(&stolen, &set), bad);
    // Nor is a token believed whose parts were changed.
    let good = key.token(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let other = key.token(&with(&[("roles", json!(["boss"]))]));
    let swapped = format!(
        "{}.{}.{}",
        parts[0],
        other.split('.').nth(1).unwrap(),
        parts[2]
    );
    assert_eq!(read_now(&swapped, &set), bad);
    for broken in [
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{good}.{}", parts[2]),
        format!("{}..{}", parts[0], parts[2]),
        "eyJ..".to_owned(),
        String::new(),
    ] {
        assert!(read_now(&broken, &set).is_err(), "{broken}");
    }
    // A key that is for something else signs nothing.
    for (name, value) in [("use", "enc"), ("alg", "ES384")] {
        let mut other = public.clone();
        other[name] = json!(value);
        let set = shown(json!([other]));
        assert_eq!(read_now(&good, &set), Err(Rejected::UnknownKey), "{name}");
    }
}

#[test]
fn law_13_tokens_of_the_provider_that_are_for_something_else_let_nobody_in() {
    let key = SigningKey::new("k1");
    let set = keys(&[&key]);
    for (name, value) in [
        ("at_hash", json!("x")),
        ("c_hash", json!("x")),
        ("cnf", json!({"jkt": "x"})),
        (
            "events",
            json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
        ),
        ("typ", json!("ID")),
        ("typ", json!("Refresh")),
    ] {
        match read_now(&key.token(&with(&[(name, value)])), &set) {
            Err(Rejected::Invalid(why)) => assert!(why.contains("another kind"), "{why}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(read_now(&key.token(&with(&[("typ", json!("Bearer"))])), &set).is_ok());
}

#[test]
fn law_13_an_address_that_nobody_verified_is_no_name() {
    signatures::install();
    let key = SigningKey::new("k1");
    let expected = Expected {
        principal_claim: "email".into(),
        ..expected()
    };
    let named = |verified: Value| {
        let claims = with(&[
            ("email", json!("a@b.example")),
            ("email_verified", verified),
        ]);
        read(&key.token(&claims), &keys(&[&key]), &expected, now())
    };
    assert_eq!(&*named(json!(true)).unwrap().principal, "oidc:a@b.example");
    assert!(named(json!(false)).is_err());
}

#[test]
fn a_token_without_a_key_id_needs_a_provider_with_one_key() {
    let (key, other) = (SigningKey::new("k1"), SigningKey::new("k2"));
    let token = key.token_with(&json!({"alg": "ES256"}), &claims());
    assert!(read_now(&token, &keys(&[&key])).is_ok());
    assert!(matches!(
        read_now(&token, &keys(&[&key, &other])),
        Err(Rejected::Invalid(_))
    ));
    assert_eq!(read_now(&token, &keys(&[])), Err(Rejected::UnknownKey));
}

/// What OpenSSL signed with an RSA key: most providers use one.
#[test]
fn signatures_of_rsa_keys_are_checked() {
    let made: Value = serde_json::from_str(include_str!("rsa.json")).unwrap();
    let set = shown(made["keys"].clone());
    for way in ["RS256", "PS256"] {
        let token = made[way].as_str().unwrap();
        assert_eq!(
            &*read_now(token, &set).unwrap().principal,
            "oidc:alice",
            "{way}"
        );
        let (signed, signature) = token.rsplit_once('.').unwrap();
        // The last character holds bits that do not count.
        let changed = if signature.starts_with('A') { "B" } else { "A" };
        let changed = format!("{signed}.{changed}{}", &signature[1..]);
        assert!(read_now(&changed, &set).is_err(), "{way}");
    }
}
