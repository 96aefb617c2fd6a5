//! The command line of a server or an agent: one table that is read and told of.

use anyhow::Context;
use kedge_config::machine::{Audit, AuditLog};
use kedge_config::names::STATE_DIR;
use std::path::PathBuf;

/// Read if it is there and `--config` does not say otherwise.
pub const CONFIG: &str = "/etc/kedge/kedge.yaml";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub config: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub https_port: Option<u16>,
    pub disable_agent: bool,
    pub disable_controllers: bool,
    /// Files of documents about the cluster, by their fields in the machine config.
    pub documents: Vec<(&'static str, PathBuf)>,
    pub audit: Option<Audit>,
    pub secrets_encryption: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: None,
            data_dir: STATE_DIR.into(),
            https_port: None,
            disable_agent: false,
            disable_controllers: false,
            documents: Vec::new(),
            audit: None,
            secrets_encryption: false,
        }
    }
}

impl Options {
    pub fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut parsed = Self::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let (name, inline) = word.split_once('=').map_or((*word, None), |(name, value)| (name, Some(value)));
            let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
                anyhow::bail!("unknown option {name}; `kedge --help` names them all")
            };
            let mut value =
                || inline.or_else(|| rest.next().copied()).with_context(|| format!("option {name} needs a value"));
            match flag.takes {
                Takes::Nothing(set) => {
                    anyhow::ensure!(inline.is_none(), "option {name} takes no value");
                    set(&mut parsed);
                }
                Takes::Path(set) => set(&mut parsed, value()?.into()),
                Takes::Document(field) => parsed.documents.push((field, value()?.into())),
                Takes::Number(set) => {
                    let word = value()?;
                    set(&mut parsed, word.parse().with_context(|| format!("{name} {word}: expected a number"))?);
                }
                Takes::Port(set) => {
                    let word = value()?;
                    let port = word.parse().ok().filter(|port| *port != 0);
                    set(&mut parsed, port.with_context(|| format!("{name} {word}: expected a port, 1 to 65535"))?);
                }
            }
        }
        Ok(parsed)
    }

    fn audit(&mut self) -> &mut Audit {
        self.audit.get_or_insert_default()
    }

    fn audit_log(&mut self) -> &mut AuditLog {
        self.audit().log.get_or_insert_default()
    }
}

/// An option of the command line, as it is read and as `--help` tells of it.
struct Flag {
    name: &'static str,
    /// What stands for its value in the help; empty if it takes none.
    value: &'static str,
    takes: Takes,
    help: &'static str,
}

enum Takes {
    Nothing(fn(&mut Options)),
    Path(fn(&mut Options, PathBuf)),
    /// The file of what the machine config says in this field of the cluster.
    Document(&'static str),
    Port(fn(&mut Options, u16)),
    Number(fn(&mut Options, u64)),
}

/// Those that upstream has are named as upstream names them.
const FLAGS: &[Flag] = &[
    Flag {
        name: "--config",
        value: "FILE",
        takes: Takes::Path(|options, path| options.config = Some(path)),
        help: "machine config (default: /etc/kedge/kedge.yaml, if there is one)",
    },
    Flag {
        name: "--data-dir",
        value: "DIR",
        takes: Takes::Path(|options, path| options.data_dir = path),
        help: "what lasts: database, keys, admin.kubeconfig (default: /var/lib/kedge)",
    },
    Flag {
        name: "--https-port",
        value: "PORT",
        takes: Takes::Port(|options, port| options.https_port = Some(port)),
        help: "of the API server (default: 6443)",
    },
    Flag {
        name: "--disable-agent",
        value: "",
        takes: Takes::Nothing(|options| options.disable_agent = true),
        help: "the control plane alone, without containers: needs no root",
    },
    Flag {
        name: "--disable-controllers",
        value: "",
        takes: Takes::Nothing(|options| options.disable_controllers = true),
        help: "without controllers and scheduler: objects stay as clients write them",
    },
    Flag {
        name: "--authentication-config",
        value: "FILE",
        takes: Takes::Document("authentication"),
        help: "AuthenticationConfiguration: OIDC issuers, and who is anonymous",
    },
    Flag {
        name: "--authentication-token-webhook-config-file",
        value: "FILE",
        takes: Takes::Document("tokenWebhook"),
        help: "kubeconfig of a server that reviews tokens",
    },
    Flag {
        name: "--authorization-config",
        value: "FILE",
        takes: Takes::Document("authorization"),
        help: "AuthorizationConfiguration: which authorizers are asked, in which order",
    },
    Flag {
        name: "--secrets-encryption",
        value: "",
        takes: Takes::Nothing(|options| options.secrets_encryption = true),
        help: "Secrets lie encrypted in the database, by a key that the server makes",
    },
    Flag {
        name: "--encryption-provider-config",
        value: "FILE",
        takes: Takes::Document("encryption"),
        help: "EncryptionConfiguration: what lies encrypted, and by which keys",
    },
    Flag {
        name: "--audit-policy-file",
        value: "FILE",
        takes: Takes::Path(|options, path| options.audit().policy_file = Some(path)),
        help: "audit Policy: what is recorded, and how much of it",
    },
    Flag {
        name: "--audit-log-path",
        value: "FILE",
        takes: Takes::Path(|options, path| options.audit_log().path = Some(path)),
        help: "where audit events are written, a line of JSON each",
    },
    Flag {
        name: "--audit-log-maxsize",
        value: "MIB",
        takes: Takes::Number(|options, number| options.audit_log().max_size = number),
        help: "size of an audit log at which the next is begun (default: 16)",
    },
    Flag {
        name: "--audit-log-maxbackup",
        value: "N",
        takes: Takes::Number(|options, number| options.audit_log().max_backups = number),
        help: "audit logs that are kept beside the one being written (default: 4)",
    },
    Flag {
        name: "--audit-log-maxage",
        value: "DAYS",
        takes: Takes::Number(|options, number| options.audit_log().max_age = number),
        help: "how long audit logs are kept (default: 30)",
    },
    Flag {
        name: "--audit-webhook-config-file",
        value: "FILE",
        takes: Takes::Path(|options, path| options.audit().webhook_config_file = Some(path)),
        help: "kubeconfig of a server that is sent audit events",
    },
];

/// What `kedge --help` says.
pub fn usage() -> String {
    let mut text = "\
usage: kedge server [OPTION]...   run a server on this machine
       kedge agent  [OPTION]...   join this machine to a server
       kedge snapshot save|list|info|restore [FILE] [--data-dir DIR]
       kedge secrets-encrypt status|rotate-keys [--data-dir DIR]
       kedge --version

"
    .to_owned();
    for Flag { name, value, help, .. } in FLAGS {
        let told = format!("{name} {value}");
        let told = told.trim_end();
        let gap = if told.len() > 30 { format!("\n{:34}", "") } else { " ".repeat(32 - told.len()) };
        text += &format!("  {told}{gap}{help}\n");
    }
    text + "\nAs process 1 kedge takes no arguments: it is the machine's init.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_nonsense_is_told() {
        let expected = Options {
            config: Some("/a".into()),
            data_dir: "/b".into(),
            https_port: Some(7443),
            disable_agent: true,
            disable_controllers: true,
            documents: vec![("authentication", "/c".into())],
            audit: None,
            secrets_encryption: true,
        };
        let words = [
            "--config",
            "/a",
            "--data-dir=/b",
            "--https-port",
            "7443",
            "--disable-agent",
            "--disable-controllers",
            "--secrets-encryption",
            "--authentication-config=/c",
        ];
        assert_eq!(Options::parse(&words).unwrap(), expected);
        assert_eq!(Options::parse(&[]).unwrap(), Options::default());
        for (words, says) in [
            (&["--config"][..], "option --config needs a value"),
            (&["--port", "1"], "unknown option --port"),
            (&["--https-port=none"], "--https-port none: expected a port"),
            (&["--https-port=0"], "--https-port 0: expected a port"),
            (&["--disable-agent=yes"], "option --disable-agent takes no value"),
        ] {
            let error = Options::parse(words).unwrap_err().to_string();
            assert!(error.starts_with(says), "{words:?}: {error}");
        }
    }

    #[test]
    fn every_option_is_told_of() {
        let usage = usage();
        for Flag { name, help, .. } in FLAGS {
            assert!(usage.contains(&format!("  {name}")) && usage.contains(help), "{name} in\n{usage}");
        }
        assert!(usage.lines().all(|line| line.len() <= 110 && line.trim_end() == line), "{usage}");
    }
}
