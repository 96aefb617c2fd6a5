use super::*;

fn parse(text: &str) -> Result<Authentication, String> {
    let document = Document { name: "auth.yaml".into(), text: text.into() };
    Authentication::parse(&document).map_err(|mistakes| mistakes.to_string())
}

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";

fn issuer(rest: &str) -> String {
    format!("{HEAD}jwt:\n- issuer:\n    url: https://a.example.com\n    audiences: [kedge]\n{rest}")
}

#[test]
fn a_document_says_whose_tokens_are_believed() {
    let read = parse(&issuer(
        "    discoveryURL: https://b.example.com/x\n  claimMappings:\n    username: {claim: sub, prefix: \"\"}\n\
         \x20   groups: {expression: claims.roles}\n    extra:\n    - {key: acme.io/a, valueExpression: claims.a}\n\
         \x20 userValidationRules:\n  - expression: user.username != 'root'\nanonymous:\n  enabled: true\n  conditions:\n  - path: /livez\n",
    ))
    .unwrap();
    let [one] = read.issuers.as_slice() else { panic!("{read:?}") };
    assert_eq!(
        (one.url.as_str(), one.discovery.as_deref()),
        ("https://a.example.com", Some("https://b.example.com/x"))
    );
    assert_eq!(
        (one.audiences.as_slice(), one.mapping.extra.len(), one.mapping.users.len()),
        (&["kedge".to_owned()][..], 1, 1)
    );
    assert!(read.anonymous.allows("/livez") && !read.anonymous.allows("/readyz"));
    assert_eq!(parse(HEAD).unwrap().anonymous, Anonymous::Everywhere);
    assert_eq!(parse(&format!("{HEAD}anonymous: {{enabled: false}}\n")).unwrap().anonymous, Anonymous::Nowhere);
}

#[test]
fn what_is_wrong_is_told_as_upstream_does_with_its_line() {
    const NAMED: &str = "  claimMappings:\n    username: {claim: sub, prefix: \"\"}\n";
    for (text, expected) in [
        (format!("{HEAD}jwt: [{{}}]\n"), "3: jwt[0]: missing field \"issuer\""),
        (
            issuer("  claimMappings: {}\n"),
            "7: jwt[0].claimMappings.username: Required value: claim or expression is required",
        ),
        (
            issuer("  claimMappings:\n    username:\n      claim: sub\n"),
            "8: jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
        ),
        (
            issuer("  claimMappings:\n    username:\n      expression: claims.email\n"),
            "9: jwt[0].claimMappings.username.expression: Invalid value: \"claims.email\": claims.email_verified must be used",
        ),
        (
            issuer("  claimMappings:\n    username:\n      expression: claim.sub\n"),
            "9: jwt[0].claimMappings.username.expression: Invalid value: \"claim.sub\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'claim'",
        ),
        (
            issuer(&format!("{NAMED}  claimValidationRules:\n  - claim: a\n    message: m\n  - expression: \"'a'\"\n")),
            "11: jwt[0].claimValidationRules[0].message: Invalid value: \"m\": message can't be set when claim is set",
        ),
        (
            issuer(&format!("{NAMED}  claimValidationRules:\n  - expression: \"'a'\"\n")),
            "10: jwt[0].claimValidationRules[0].expression: Invalid value: \"'a'\": must evaluate to bool",
        ),
        (
            issuer(&format!("{NAMED}    extra:\n    - key: kubernetes.io/x\n      valueExpression: claims.a\n")),
            "10: jwt[0].claimMappings.extra[0].key: Invalid value: \"kubernetes.io/x\": k8s.io, kubernetes.io and their subdomains are reserved",
        ),
        (
            issuer(&format!("    audienceMatchPolicy: All\n{NAMED}")),
            "7: jwt[0].issuer.audienceMatchPolicy: Invalid value: \"All\": audienceMatchPolicy must be empty or MatchAny for single audience",
        ),
        (
            issuer(&format!("    certificateAuthority: none\n{NAMED}")),
            "7: jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\": data does not contain any valid RSA or ECDSA certificates",
        ),
        (issuer(&format!("    color: red\n{NAMED}")), "7: jwt[0].issuer: unknown field \"color\", expected one of"),
        (
            format!("{HEAD}jwt:\n- issuer:\n    url: http://u@h?a#b\n    audiences: [\"\"]\n{NAMED}"),
            "5: jwt[0].issuer.url: Invalid value: \"http://u@h?a#b\": URL scheme must be https",
        ),
        (
            format!("{HEAD}anonymous:\n  enabled: false\n  conditions:\n  - path: /x\n"),
            "5: anonymous.conditions: Invalid value: enabled should be set to true when conditions are defined",
        ),
        (
            issuer(&format!("{NAMED}- issuer:\n    url: https://a.example.com\n    audiences: [b]\n{NAMED}")),
            "10: jwt[1].issuer.url: Duplicate value",
        ),
    ] {
        let told = parse(&text).unwrap_err();
        assert!(told.starts_with(&format!("auth.yaml:{expected}")), "{text}\n{told}\nexpected {expected}");
    }
}
