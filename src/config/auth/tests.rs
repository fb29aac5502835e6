use super::*;

fn token(name: &str, digit: char, roles: &[TokenRole]) -> TokenConfig {
    TokenConfig {
        name: name.into(),
        roles: roles.to_vec(),
        sha256: digit.to_string().repeat(64),
        expires: None,
    }
}

fn keys(tokens: Vec<TokenConfig>) -> Vec<String> {
    let config = AuthConfig {
        tokens,
        ..AuthConfig::default()
    };
    let mut problems = Problems::default();
    config.check(&mut problems);
    problems.0.into_iter().map(|p| p.key).collect()
}

#[test]
fn two_tokens_of_one_name_are_one_principal_with_one_set_of_roles() {
    use TokenRole::{Read, Write};
    let first = token("app", 'a', &[Read, Write]);
    let same = token("app", 'b', &[Write, Read]);
    assert!(keys(vec![first.clone(), same]).is_empty());
    let more = token("app", 'b', &[Read, Write, TokenRole::Admin]);
    assert_eq!(keys(vec![first.clone(), more]), ["auth.tokens.1.roles"]);
    let mut again = token("other", 'A', &[Read]);
    assert_eq!(
        keys(vec![first.clone(), again.clone()]),
        ["auth.tokens.1.sha256"]
    );
    again.name = "OIDC:alice".into();
    again.sha256 = "c".repeat(64);
    assert_eq!(keys(vec![first, again]), ["auth.tokens.1.name"]);
}

#[test]
fn a_file_of_tokens_is_read_again_and_what_is_wrong_in_it_is_said_without_what_stands_there() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(file.path(), text).unwrap();
    let list = |names: &[&str]| {
        let tokens = names.iter().enumerate();
        let tokens: Vec<_> = tokens
            .map(|(i, name)| token(name, char::from(b'0' + i as u8), &[TokenRole::Read]))
            .collect();
        serde_json::to_string(&tokens).unwrap()
    };
    let config = AuthConfig {
        tokens: vec![token("ops", 'f', &[TokenRole::Admin])],
        tokens_file: Some(file.path().into()),
        ..AuthConfig::default()
    };
    let names = |config: &AuthConfig| -> Vec<String> {
        config.all_tokens().map(|t| t.name.clone()).collect()
    };
    write(&list(&["a", "b"]));
    let read = config.read_again().unwrap();
    assert_eq!(names(&read), ["ops", "a", "b"]);
    write("[]");
    assert_eq!(names(&read.read_again().unwrap()), ["ops"]);
    assert!(
        AuthConfig {
            tokens: vec![],
            ..read.clone()
        }
        .is_required(),
        "a token is needed all the same"
    );
    for (text, said) in [
        ("", "is empty"),
        ("[{\"name\": \"hunter2\"", "line 1"),
        ("{\"hunter2\": 1}", "no JSON list"),
        (&list(&["system"]), "name of token 0"),
    ] {
        write(text);
        let error = read.read_again().unwrap_err().to_string();
        assert!(
            error.contains(said) && error.contains("auth.tokens_file"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    drop(file);
    assert!(
        read.read_again()
            .unwrap_err()
            .to_string()
            .contains("cannot be read")
    );
}
