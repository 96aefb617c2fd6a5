//! A server whose Secrets lie encrypted: by a key of its own or as a configuration says, turned over while it runs and killed in the
//! midst of it, with keys that are gone, and with what is wrong in its configuration.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{MAPS, Server, free_port, kedge};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
/// What must be nowhere, in the form in which a Secret holds it.
const HUSH: &str = "nobody is to read these words";
const OWN: &str = "--secrets-encryption";

fn hush() -> String {
    STANDARD.encode(HUSH)
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"k": HUSH}})
}

/// How often `text` lies anywhere below `dir`.
fn found(dir: &Path, text: &str) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let count = |path: &Path| {
        // Some are gone while one looks.
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).filter(|part| *part == text.as_bytes()).count()
    };
    entries.map(|path| if path.is_dir() { found(&path, text) } else { count(&path) }).sum()
}

/// When everything lies as the keys say.
fn settled(server: &Server) -> Value {
    let told = || server.ask("GET", "/kedge/secrets-encrypt", &Value::Null);
    server.until(|| told()["stage"] == "all stored values are up to date", "end of rewriting");
    told()
}

fn active(told: &Value) -> Vec<&str> {
    let keys = told["keys"].as_array().unwrap().iter();
    keys.filter(|key| key["active"] == true).map(|key| key["key"].as_str().unwrap_or("none")).collect()
}

/// And when own keys that nothing needs are gone.
fn turned(server: &Server) -> Value {
    let keys = || settled(server)["keys"].as_array().unwrap().iter().filter(|key| !key["key"].is_null()).count();
    server.until(|| keys() == 1, "end of the rotation");
    settled(server)
}

/// The same object as it was, version and all.
fn reads_back(server: &Server, written: &Value) {
    let read = server.ask("GET", &format!("{SECRETS}/{}", written["metadata"]["name"].as_str().unwrap()), &Value::Null);
    assert_eq!((&read["data"], &read["metadata"]), (&json!({"k": hush()}), &written["metadata"]));
}

fn end(mut server: Server, signal: &str) {
    server.signal(signal);
    server.process.wait().unwrap();
}

#[test]
fn an_own_key_encrypts_what_was_there_and_is_turned_over_and_off() {
    let folder = tempfile::tempdir().unwrap();
    let (data, port) = (folder.path().join("data"), free_port());
    let keys = data.join("encryption-config.json");
    let server = Server::start(&data, port);
    let first = server.ask("POST", SECRETS, &secret("first"));
    assert!(found(&data, &hush()) > 0 && !keys.exists());
    assert_eq!(settled(&server)["enabled"], false);
    end(server, "-TERM");

    let server = Server::start_with(&data, port, &[OWN]);
    let told = settled(&server);
    assert_eq!(found(&data, &hush()), 0, "neither the database nor its log holds it any longer");
    reads_back(&server, &first);
    let second = server.ask("POST", SECRETS, &secret("second"));
    assert_eq!(found(&data, &hush()), 0);
    let (done, text) = kedge(&["secrets-encrypt", "status"], &data);
    let old = active(&told)[0].to_owned();
    assert!(
        done && text.contains("Encryption Status: Enabled") && text.contains(&format!("secretbox  {old}")),
        "{text}"
    );

    let (done, text) = kedge(&["secrets-encrypt", "rotate-keys"], &data);
    assert!(done && !text.contains(&old), "{text}");
    assert_eq!(found(&data, &old), 0, "nothing lies by the old key, and it is nowhere");
    let new = settled(&server);
    assert_eq!((active(&new).len(), new["rewritten"].as_u64() >= Some(2)), (1, true), "{new}");
    [&first, &second].into_iter().for_each(|written| reads_back(&server, written));
    let metrics = String::from_utf8(server.answer("GET", "/metrics", &Value::Null)).unwrap();
    let counted = "transformation_type=\"to_storage\",transformer_prefix=\"k8s:enc:secretbox:v1:\"";
    assert!(metrics.contains(counted));
    let form: Value = serde_json::from_slice(&std::fs::read(&keys).unwrap()).unwrap();
    let key = form.pointer("/resources/0/providers/0/secretbox/keys/0/secret").and_then(Value::as_str).unwrap();
    let log = std::fs::read_to_string(data.with_extension("log")).unwrap();
    for told in [&metrics, &log, &text] {
        assert!(!told.contains(&hush()) && !told.contains(HUSH) && !told.contains(key));
    }
    end(server, "-KILL");

    // Without the key: what it hid is named, and nothing else is refused.
    let aside = folder.path().join("aside.json");
    std::fs::rename(&keys, &aside).unwrap();
    let server = Server::start(&data, port);
    let told = settled(&server);
    let missing = told["unreadable"][0].as_str().unwrap().to_owned();
    for part in ["/registry/secrets/", &format!("secretbox key \"{}\"", active(&new)[0]), keys.to_str().unwrap()] {
        assert!(missing.contains(part), "{part}: {missing}");
    }
    assert!(std::fs::read_to_string(data.with_extension("log")).unwrap().contains("secretbox key"));
    let why = "Internal error occurred: no matching prefix found";
    for (method, body) in [("GET", Value::Null), ("PUT", secret("first")), ("DELETE", Value::Null)] {
        let refused = server.ask(method, &format!("{SECRETS}/first"), &body);
        assert_eq!((&refused["message"], &refused["code"]), (&json!(why), &json!(500)), "{method}");
    }
    let refused = server.ask("GET", SECRETS, &Value::Null);
    let at = "Internal error occurred: unable to transform key \"/registry/secrets/default/first\": no matching prefix found";
    assert_eq!((&refused["message"], &refused["code"]), (&json!(at), &json!(500)));
    assert_eq!(server.ask("POST", SECRETS, &secret("first"))["reason"], "AlreadyExists");
    let map = json!({"metadata": {"name": "open"}, "data": {"k": "v"}});
    assert_eq!(server.ask("POST", MAPS, &map)["data"], map["data"]);
    end(server, "-TERM");

    // With it, and encryption turned off: all lies in the clear again.
    std::fs::rename(&aside, &keys).unwrap();
    let server = Server::start(&data, port);
    assert_eq!(settled(&server)["enabled"], false);
    [&first, &second].into_iter().for_each(|written| reads_back(&server, written));
    assert!(found(&data, &hush()) > 0);
    let (done, text) = kedge(&["secrets-encrypt", "rotate-keys"], &data);
    assert!(!done && text.contains("secrets encryption is disabled"), "{text}");
}

#[test]
fn a_kill_while_keys_are_turned_over_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (data, port) = (folder.path().join("data"), free_port());
    let server = Server::start(&data, port);
    let written: Vec<Value> = (0..40).map(|n| server.ask("POST", SECRETS, &secret(&format!("s{n}")))).collect();
    end(server, "-TERM");
    for round in 0..8_u32 {
        let server = Server::start_with(&data, port, &[OWN]);
        let mut turning = Command::new(env!("CARGO_BIN_EXE_kedge"))
            .args(["secrets-encrypt", "rotate-keys", "--data-dir"])
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(9 * u64::from(round)));
        end(server, "-KILL");
        turning.wait().unwrap();
        let server = Server::start_with(&data, port, &[OWN]);
        assert_eq!(turned(&server)["unreadable"], json!([]));
        assert_eq!(found(&data, &hush()), 0, "round {round}");
        written.iter().step_by(13).for_each(|written| reads_back(&server, written));
        end(server, "-TERM");
    }
}

fn configuration(resources: &str, providers: &[&str]) -> String {
    let providers: String = providers.iter().map(|provider| format!("  - {provider}\n")).collect();
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: {resources}\n  providers:\n{providers}"
    )
}

fn keys(provider: &str, named: &[(&str, u8)]) -> String {
    let keys: Vec<String> = named
        .iter()
        .map(|(name, byte)| format!("{{name: {name}, secret: {}}}", STANDARD.encode([*byte; 32])))
        .collect();
    format!("{provider}: {{keys: [{}]}}", keys.join(", "))
}

#[test]
fn a_configuration_says_what_is_encrypted_and_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (data, port, file) = (folder.path().join("data"), free_port(), folder.path().join("encryption.yaml"));
    let with = ["--encryption-provider-config", file.to_str().unwrap()];
    let write = |providers: &[&str]| std::fs::write(&file, configuration("[secrets, configmaps]", providers)).unwrap();
    write(&[&keys("aescbc", &[("one", 1)]), "identity: {}"]);
    let server = Server::start_with(&data, port, &with);
    let written = server.ask("POST", SECRETS, &secret("a"));
    let map = json!({"metadata": {"name": "m"}, "data": {"k": HUSH}});
    assert_eq!(server.ask("POST", MAPS, &map)["data"], map["data"]);
    assert_eq!((found(&data, &hush()), found(&data, HUSH)), (0, 0));
    assert!(found(&data, "k8s:enc:aescbc:v1:one:") > 0);
    let (done, text) = kedge(&["secrets-encrypt", "rotate-keys"], &data);
    assert!(!done && text.contains("put a new one first there"), "{text}");

    // The new key first, then the old one goes: the server runs on. What is wrong on the way changes nothing.
    write(&["aesgcm: {keys: []}"]);
    let log = || std::fs::read_to_string(data.with_extension("log")).unwrap();
    server.until(|| log().contains("aesgcm.keys: Required value: at least one keys is required"), "refusal");
    write(&[&keys("aesgcm", &[("two", 2)]), &keys("aescbc", &[("one", 1)])]);
    server.until(|| active(&settled(&server)).contains(&"two"), "new key");
    settled(&server);
    assert_eq!(found(&data, "k8s:enc:aescbc:v1:one:"), 0);
    write(&[&keys("aesgcm", &[("two", 2)])]);
    end(server, "-TERM");
    let server = Server::start_with(&data, port, &with);
    reads_back(&server, &written);
    end(server, "-TERM");

    // Another key of the same name, and a configuration that is none.
    write(&[&keys("aesgcm", &[("two", 9)])]);
    let server = Server::start_with(&data, port, &with);
    let refused = server.ask("GET", &format!("{SECRETS}/a"), &Value::Null);
    assert_eq!(refused["message"], "Internal error occurred: cipher: message authentication failed");
    let told = settled(&server)["unreadable"].to_string();
    assert!(told.contains("aesgcm key") && told.contains("two") && told.contains("encryption.yaml"), "{told}");
    end(server, "-TERM");
    write(&["secretbox: {keys: [{name: a, secret: c2hvcnQ=}]}"]);
    let process = Command::new(env!("CARGO_BIN_EXE_kedge"))
        .args(["server", "--disable-agent", "--https-port", &port.to_string(), "--data-dir"])
        .arg(&data)
        .args(with)
        .stderr(std::fs::File::create(data.with_extension("log")).unwrap())
        .spawn()
        .unwrap();
    let server = Server { process, data: data.clone(), port };
    let place = "encryption.yaml:6: resources[0].providers[0].secretbox.keys[0].secret: Invalid value: ";
    server.until(|| log().contains(place), place);
    assert!(
        log().contains("secret is not of the expected length, got 5, expected one of [32]")
            && !log().contains("c2hvcnQ")
    );
}
