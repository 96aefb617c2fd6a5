//! What an edit of the machine's object means: purely decided.

use crate::request::Request;
use crate::trial::{Edit, Refused, Trial};
use kedge_config::MachineConfig;
use serde_json::{Value, json};

/// Stands for a secret that is not shown. Who leaves it where it is leaves the secret as it is.
const MASK: &str = "<kept>";
const SECRETS: &[&str] =
    &["/token", "/network/wifi/passphrase", "/cluster/tokenWebhook/content", "/cluster/encryption/content"];
/// What makes a machine this one, and its cluster this one.
const FIXED: &[&str] = &["/hostname", "/role", "/cluster/clusterCIDR", "/cluster/serviceCIDR"];
/// The seconds of a trial, where the object does not say them.
const LIMIT: u32 = 300;

/// The config as the object shows it.
pub fn shown(config: &MachineConfig) -> Value {
    let mut shown = serde_json::to_value(config).unwrap_or_default();
    for secret in SECRETS {
        if let Some(text) = shown.pointer_mut(secret) {
            *text = MASK.into();
        }
    }
    shown
}

/// What an object asks for, where `now` is in force.
pub fn wanted(object: &Value, now: &MachineConfig) -> Result<MachineConfig, String> {
    let mut config = object.pointer("/spec/config").cloned().unwrap_or_else(|| json!({}));
    let now = serde_json::to_value(now).map_err(|error| error.to_string())?;
    for secret in SECRETS {
        if let Some(text) = config.pointer_mut(secret).filter(|text| *text == MASK) {
            *text = now.pointer(secret).cloned().ok_or_else(|| format!("{secret}: there is no such secret to keep"))?;
        }
    }
    let wanted = MachineConfig::parse("spec.config", &config.to_string()).map_err(|error| error.message)?;
    let whole = serde_json::to_value(&wanted).map_err(|error| error.to_string())?;
    match FIXED.iter().find(|field| whole.pointer(field) != now.pointer(field)) {
        Some(field) => {
            let field = field.trim_start_matches('/').replace('/', ".");
            Err(format!("{field}: cannot be changed here: it would be another machine; write its image anew"))
        }
        None => Ok(wanted),
    }
}

/// How a machine comes from one config to another. Addresses and routes that are no longer asked for, and settings of the kernel, only go
/// with a reboot; containers run on without one.
pub fn way(old: &MachineConfig, new: &MachineConfig) -> Request {
    let mut easy = old.clone();
    easy.node = new.node.clone();
    easy.logs = new.logs.clone();
    easy.cluster.authentication = new.cluster.authentication.clone();
    easy.cluster.authorization = new.cluster.authorization.clone();
    easy.cluster.token_webhook = new.cluster.token_webhook.clone();
    easy.cluster.audit = new.cluster.audit.clone();
    easy.cluster.secrets_encryption = new.cluster.secrets_encryption;
    easy.cluster.encryption = new.cluster.encryption.clone();
    if old.sysctls.keys().all(|name| new.sysctls.contains_key(name)) {
        easy.sysctls = new.sysctls.clone();
    }
    if easy == *new { Request::Reexec } else { Request::Reboot }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Kept,
    Trying,
    Refused,
}

/// What is to be done about the object.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Told in its status.
    Tell(Phase, String),
    /// To be tried by what comes after the request.
    Try(Trial, Request),
}

/// How the machine stands.
pub struct Now<'a> {
    pub config: &'a MachineConfig,
    /// Where `config` is on trial.
    pub trial: Option<&'a Trial>,
    pub refused: Option<&'a Refused>,
    pub addressed: bool,
}

pub fn step(object: &Value, now: &Now<'_>) -> Step {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let edit = Edit {
        uid: text("/metadata/uid"),
        generation: object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0),
    };
    if let Some(refused) = now.refused.filter(|refused| refused.edit == edit) {
        return Step::Tell(Phase::Refused, refused.why.clone());
    }
    let wanted = match wanted(object, now.config) {
        Ok(wanted) => wanted,
        Err(why) => return Step::Tell(Phase::Refused, why),
    };
    if wanted == *now.config {
        return match now.trial {
            Some(trial) => Step::Tell(Phase::Trying, format!("well within {} s, or back to the old one", trial.limit)),
            None => Step::Tell(Phase::Kept, String::new()),
        };
    }
    let way = way(now.config, &wanted);
    let limit = object.pointer("/spec/healthLimitSeconds").and_then(Value::as_u64);
    let limit = limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(LIMIT);
    match serde_json::to_string(&wanted) {
        Ok(config) => Step::Try(Trial { edit, config, limit, addressed: now.addressed, begun: false }, way),
        Err(error) => Step::Tell(Phase::Refused, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> MachineConfig {
        MachineConfig::parse("t", text).unwrap()
    }

    fn object(config: Value) -> Value {
        json!({"metadata": {"uid": "u", "generation": 2}, "spec": {"config": config, "healthLimitSeconds": 60}})
    }

    fn now(config: &MachineConfig) -> Now<'_> {
        Now { config, trial: None, refused: None, addressed: true }
    }

    #[test]
    fn secrets_are_not_shown_and_stay() {
        let old = config("cluster: {encryption: {content: secret}}\n");
        let mut shown = shown(&old);
        assert!(!shown.to_string().contains("secret\""), "{shown}");
        assert_eq!(wanted(&object(shown.clone()), &old).unwrap(), old);
        shown["cluster"]["encryption"]["content"] = "other".into();
        assert_eq!(wanted(&object(shown.clone()), &old).unwrap().cluster.encryption.unwrap().content.unwrap(), "other");
        shown["cluster"]["tokenWebhook"] = json!({"content": MASK});
        assert!(wanted(&object(shown), &old).unwrap_err().contains("tokenWebhook"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let old = config("hostname: a\n");
        for (said, told) in [
            (json!({"hostname": "b"}), "hostname: cannot be changed here"),
            (json!({}), "hostname: cannot be changed here"),
            (
                json!({"hostname": "a", "cluster": {"clusterCIDR": "10.1.0.0/16"}}),
                "cluster.clusterCIDR: cannot be changed",
            ),
            (json!({"hostname": "a", "network": {"dhpc": true}}), "network: unknown field \"dhpc\""),
            (json!({"hostname": "a", "cluster": {"apiPort": 0}}), "port 0, expected 1 to 65535"),
        ] {
            let why = wanted(&object(said), &old).unwrap_err();
            assert!(why.starts_with(told), "{why}");
        }
    }

    #[test]
    fn only_what_must_reboots() {
        let old = config("sysctls: {a.b: \"1\"}\n");
        for (new, way_there) in [
            ("sysctls: {a.b: \"2\", c.d: \"1\"}\n", Request::Reexec),
            ("sysctls: {a.b: \"1\"}\nnode: {labels: {a: b}}\nlogs: {level: debug}\n", Request::Reexec),
            ("{}", Request::Reboot),
            ("sysctls: {a.b: \"1\"}\nnetwork: {dhcp: false}\n", Request::Reboot),
            ("sysctls: {a.b: \"1\"}\ncluster: {apiPort: 7443}\n", Request::Reboot),
        ] {
            assert_eq!(way(&old, &config(new)), way_there, "{new}");
        }
    }

    #[test]
    fn an_edit_is_tried_once() {
        let old = config("hostname: a\n");
        let asked = object(json!({"hostname": "a", "logs": {"level": "debug"}}));
        let Step::Try(trial, Request::Reexec) = step(&asked, &now(&old)) else { panic!("not tried") };
        assert_eq!((trial.limit, trial.edit.generation, trial.addressed, trial.begun), (60, 2, true, false));
        let new = config(&trial.config);
        let trying = Now { trial: Some(&trial), ..now(&new) };
        assert!(matches!(step(&asked, &trying), Step::Tell(Phase::Trying, _)));
        assert_eq!(step(&asked, &now(&new)), Step::Tell(Phase::Kept, String::new()));
        let refused = Refused { edit: trial.edit.clone(), why: "no address".into() };
        let back = Now { refused: Some(&refused), ..now(&old) };
        assert_eq!(step(&asked, &back), Step::Tell(Phase::Refused, "no address".into()));
        let mut again = asked.clone();
        again["metadata"]["generation"] = 3.into();
        assert!(matches!(step(&again, &back), Step::Try(..)));
        // While one is on trial, another edit is tried from there.
        again["spec"]["config"]["logs"]["level"] = "trace".into();
        assert!(matches!(step(&again, &trying), Step::Try(..)));
    }
}
