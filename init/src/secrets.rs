//! `kedge secrets-encrypt`: how the Secrets of a running server lie in its database, and a new key for them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use kedge_cluster::Method;
use serde_json::Value;

use crate::ask;

const USAGE: &str = "\
usage: kedge secrets-encrypt status        tell by which keys stored values are encrypted
       kedge secrets-encrypt rotate-keys   encrypt all of them by a new key, and drop the old one

  --data-dir DIR   of the server, which must run (default: /var/lib/kedge)
";

pub fn run(words: &[&str]) -> ExitCode {
    ask::run(USAGE, words, parse, act)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Status,
    RotateKeys,
}

fn parse(words: &[&str]) -> Option<Asked> {
    match words {
        ["status"] => Some(Asked::Status),
        ["rotate-keys"] => Some(Asked::RotateKeys),
        _ => None,
    }
}

async fn act(asked: Asked, data: PathBuf) -> anyhow::Result<String> {
    let admin = ask::admin(&data)?.with_context(|| format!("no server ran with its data in {}", data.display()))?;
    let (method, path) = match asked {
        Asked::Status => (Method::GET, "/kedge/secrets-encrypt"),
        Asked::RotateKeys => (Method::POST, "/kedge/secrets-encrypt/rotate-keys"),
    };
    Ok(in_words(&admin.ask(method, path).await.context("ask the server")?))
}

fn in_words(told: &Value) -> String {
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let array = |field: &str| told.get(field).and_then(Value::as_array).into_iter().flatten();
    let enabled = told.get("enabled").and_then(Value::as_bool).unwrap_or_default();
    let mut lines = vec![
        format!("Encryption Status: {}", if enabled { "Enabled" } else { "Disabled" }),
        format!("Keys: {}", text(told, "source")),
        format!("Stored Values: {}", text(told, "stage")),
    ];
    lines.extend(array("unreadable").filter_map(Value::as_str).map(|line| format!("Unreadable: {line}")));
    let ways = array("keys").map(|way| {
        let active = way.get("active").and_then(Value::as_bool).unwrap_or_default();
        let [resources, provider, key] = ["resources", "provider", "key"].map(|field| text(way, field));
        format!(" {:<7} {resources:<20} {provider:<10} {key}", if active { "*" } else { "" })
    });
    let head = format!("{:<8} {:<20} {:<10} Name", "Active", "Resources", "Key Type");
    lines.extend([String::new(), head].into_iter().chain(ways));
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_told_is_put_into_words() {
        let told = json!({
            "enabled": true, "source": "/d/f.json", "stage": "all stored values are up to date", "unreadable": ["1 stored value"],
            "keys": [
                {"resources": "secrets", "provider": "secretbox", "key": "k", "active": true},
                {"resources": "secrets", "provider": "identity", "key": null, "active": false},
            ],
        });
        let expected = "Encryption Status: Enabled\nKeys: /d/f.json\nStored Values: all stored values are up to date\n\
                        Unreadable: 1 stored value\n\nActive   Resources            Key Type   Name\n\u{20}*       secrets              \
                        secretbox  k\n         secrets              identity\n";
        assert_eq!(in_words(&told), expected);
        assert_eq!(parse(&["status"]), Some(Asked::Status));
        assert_eq!(parse(&["rotate"]), None);
    }
}
